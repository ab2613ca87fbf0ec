/* Memory that an environment's start has used, and nothing since. */
#ifndef RTS_PAGES_H
#define RTS_PAGES_H

#ifdef __cplusplus
extern "C" {
#endif

/* Has the kernel take libnode's code and constants out of this process's memory. They stay in the page
 * cache, and what is used again comes from there, a page's fault each time. Threads: any. */
void rts_pages_give_back(void);

#ifdef __cplusplus
}
#endif

#endif
