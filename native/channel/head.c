/*
 * The head of a plugin's call: what it tells the host of the request (docs/http-protocol.md), from
 * nginx's memory to the bytes that travel.
 *
 * Threads: the Lua side only. Invariant: nothing is written behind the buffer's end; what has no room
 * is counted all the same. In C, as it is one call for LuaJIT then, and no loop that would end the
 * trace of all that leads up to it.
 */
#include <stdlib.h>
#include <string.h>

#include "channel/fields.h"

enum {
    FIXED_BYTES = 48,
    MOST_FIELDS = 65535,
    /* 32-bit words of the fixed part. */
    TOKEN = 1,
    ID = 2,
    COUNTS = 3,
    STATUS = 4,
    METHOD = 5,
    TARGET = 6,
    URI = 7,
    ARGS = 8,
    REMOTE_ADDR = 9,
    HOST = 10,
    ORIGINAL = 11,
    /* Of the response's fields that nginx has elsewhere, too. */
    CONTENT_TYPE = 1,
    CONTENT_LENGTH = 2,
    LAST_MODIFIED = 4,
    MOST_APART = 3,
};

static const uint32_t NOT_THERE = 0xffffffffu;

typedef struct {
    const rts_head_t *head;
    uint8_t *buffer;
    uint32_t size; /* 0: nothing has room any more */
    uint32_t at;
    uint32_t word; /* of the next field's lengths */
} out_t;

static void put_word(const out_t *out, uint32_t word, uint32_t value)
{
    if (out->size > 0) {
        memcpy(out->buffer + 4 * (size_t) word, &value, sizeof(value));
    }
}

static void put_bytes(out_t *out, const uint8_t *data, size_t bytes)
{
    const uint32_t stop = out->at + (uint32_t) bytes;
    if (stop > out->size) {
        out->size = 0;
    } else if (bytes > 0) {
        memcpy(out->buffer + out->at, data, bytes);
    }
    out->at = stop;
}

static void put_text(out_t *out, uint32_t word, const uint8_t *data, size_t bytes)
{
    put_word(out, word, (uint32_t) bytes);
    put_bytes(out, data, bytes);
}

/* The variable's value; `absent` as its length when there is none. */
static void put_var(out_t *out, uint32_t word, const char *name, uint32_t absent)
{
    uint8_t lowercase[32]; /* more than any name here has */
    uint8_t *value = NULL;
    size_t bytes = 0;
    char *err = NULL;
    if (out->head->nginx.var_get(out->head->request, name, strlen(name), lowercase, 0, &value,
                                 &bytes, &err) == 0) {
        put_text(out, word, value, bytes);
    } else {
        put_word(out, word, absent);
    }
}

static void put_method(out_t *out)
{
    uint8_t *name = NULL;
    size_t bytes = 0;
    if (out->head->nginx.method(out->head->request, &name, &bytes) != 0) {
        bytes = 0;
    }
    put_text(out, METHOD, name, bytes);
}

static void put_target(out_t *out)
{
    const rts_head_t *head = out->head;
    if (head->target.data != NULL) {
        put_text(out, TARGET, head->target.data, (size_t) head->target.bytes);
    } else {
        put_var(out, TARGET, "request_uri", 0);
    }
}

static void put_uri(out_t *out)
{
    const rts_head_t *head = out->head;
    if (head->uri.data == NULL) {
        put_var(out, URI, "uri", 0);
        put_var(out, ARGS, "args", NOT_THERE);
        return;
    }
    put_text(out, URI, head->uri.data, (size_t) head->uri.bytes);
    if (head->args.data != NULL) {
        put_text(out, ARGS, head->args.data, (size_t) head->args.bytes);
    } else {
        put_word(out, ARGS, NOT_THERE);
    }
}

static void put_original(out_t *out)
{
    const rts_head_t *head = out->head;
    if (head->original.data != NULL) {
        put_text(out, ORIGINAL, head->original.data, (size_t) head->original.bytes);
    } else {
        put_word(out, ORIGINAL, NOT_THERE);
    }
}

static void put_field(out_t *out, const uint8_t *name, size_t name_bytes, const uint8_t *value,
                      size_t value_bytes)
{
    put_text(out, out->word, name, name_bytes);
    put_text(out, out->word + 1, value, value_bytes);
    out->word += 2;
}

static void put_fields(out_t *out, const rts_field_t *fields, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        put_field(out, fields[i].name.data, (size_t) fields[i].name.bytes, fields[i].value.data,
                  (size_t) fields[i].value.bytes);
    }
}

static void put_listed(out_t *out, const rts_nginx_list_t *list)
{
    rts_place_t place = rts_list_begin(list);
    for (rts_nginx_field_t *field = rts_list_next_sent(&place); field != NULL;
         field = rts_list_next_sent(&place)) {
        put_field(out, field->name.data, field->name.bytes, field->value.data, field->value.bytes);
    }
}

/* Room for so many of the request's fields, of all requests one after the other. */
static rts_field_t *room_for(uint32_t n)
{
    static rts_field_t *fields;
    static uint32_t room;
    if (n > room) {
        rts_field_t *more = realloc(fields, 2 * (size_t) n * sizeof(rts_field_t));
        if (more == NULL) {
            return NULL;
        }
        fields = more;
        room = 2 * n;
    }
    return fields;
}

static uint32_t known_name(const rts_nginx_field_t *field)
{
    switch (field->name.bytes) {
    case 12: return rts_field_is_named(field, "Content-Type", 12) ? CONTENT_TYPE : 0;
    case 14: return rts_field_is_named(field, "Content-Length", 14) ? CONTENT_LENGTH : 0;
    case 13: return rts_field_is_named(field, "Last-Modified", 13) ? LAST_MODIFIED : 0;
    default: return 0;
    }
}

static uint32_t count_listed(const rts_nginx_list_t *list, uint32_t *known)
{
    uint32_t n = 0;
    *known = 0;
    rts_place_t place = rts_list_begin(list);
    for (rts_nginx_field_t *field = rts_list_next_sent(&place); field != NULL;
         field = rts_list_next_sent(&place)) {
        n++;
        *known |= known_name(field);
    }
    return n;
}

/* Adds a field that nginx has elsewhere than in its list, if it does. */
static void find_apart(const rts_head_t *head, const char *name, rts_field_t *apart, uint32_t *n)
{
    uint8_t name_buffer[32];
    char *err = NULL;
    rts_field_t *field = &apart[*n];
    field->name = (rts_text_t){.bytes = (int32_t) strlen(name), .data = (const uint8_t *) name};
    if (head->nginx.response_field(head->request, field->name.data, strlen(name), name_buffer,
                                   &field->value, 1, &err) == 1) {
        (*n)++;
    }
}

static uint32_t find_all_apart(const rts_head_t *head, uint32_t known, rts_field_t *apart)
{
    uint32_t n = 0;
    if ((known & CONTENT_TYPE) == 0) {
        find_apart(head, "Content-Type", apart, &n);
    }
    if (head->is_known && (known & CONTENT_LENGTH) == 0) {
        find_apart(head, "Content-Length", apart, &n);
    }
    if (head->is_known && (known & LAST_MODIFIED) == 0) {
        find_apart(head, "Last-Modified", apart, &n);
    }
    return n;
}

/* The request's fields. Returns how many; or one of the constants, negative. */
static int64_t find_fields(const rts_head_t *head, rts_field_t **fields)
{
    int is_truncated = 0;
    const int n = head->nginx.fields_count(head->request, 0, &is_truncated);
    if (n <= 0) {
        return 0;
    }
    if (n > MOST_FIELDS) {
        return -RTS_HEAD_REQUEST_FIELDS;
    }
    *fields = room_for((uint32_t) n);
    if (*fields == NULL) {
        return -RTS_HEAD_NO_MEMORY;
    }
    return head->nginx.fields(head->request, *fields, n, 1) == 0 ? n : 0;
}

static void put_fixed(const out_t *out, uint32_t requests, uint32_t responses)
{
    const rts_head_t *head = out->head;
    const uint8_t first[] = {head->phase, head->version, head->flags, 0};
    memcpy(out->buffer, first, sizeof(first));
    put_word(out, TOKEN, head->token);
    put_word(out, ID, head->id);
    put_word(out, COUNTS, requests | responses << 16);
    put_word(out, STATUS, head->status);
}

uint32_t rts_head_put(const rts_head_t *head, uint8_t *buffer, uint32_t size)
{
    out_t out = {
        .head = head, .buffer = buffer, .size = size, .at = FIXED_BYTES, .word = FIXED_BYTES / 4};
    if (head->request == NULL) {
        put_fixed(&out, 0, 0);
        memset((uint32_t *) (void *) buffer + METHOD, 0, FIXED_BYTES - sizeof(uint32_t) * METHOD);
        return FIXED_BYTES;
    }
    rts_field_t *fields = NULL;
    const int64_t requests = find_fields(head, &fields);
    if (requests < 0) {
        return (uint32_t) -requests;
    }
    rts_field_t apart[MOST_APART];
    uint32_t known;
    const uint32_t listed = count_listed(head->response, &known);
    const uint32_t n_apart = find_all_apart(head, known, apart);
    if (listed + n_apart > MOST_FIELDS) {
        return RTS_HEAD_RESPONSE_FIELDS;
    }
    out.at += 8 * ((uint32_t) requests + listed + n_apart);
    if (out.at > size) {
        out.size = 0;
    } else {
        put_fixed(&out, (uint32_t) requests, listed + n_apart);
    }
    put_method(&out);
    put_target(&out);
    put_uri(&out);
    put_var(&out, REMOTE_ADDR, "remote_addr", 0);
    put_var(&out, HOST, "host", 0);
    put_original(&out);
    put_fields(&out, fields, (uint32_t) requests);
    put_fields(&out, apart, n_apart);
    put_listed(&out, head->response);
    return out.at;
}
