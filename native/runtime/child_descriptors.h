/* What a child process inherits of the worker's descriptors. */
#ifndef RTS_CHILD_DESCRIPTORS_H
#define RTS_CHILD_DESCRIPTORS_H

/* Marks all descriptors but stdio close-on-exec. To be called in a child between fork and exec,
 * before those that it is to keep are put in their places. */
void rts_child_close_others(void);

#endif
