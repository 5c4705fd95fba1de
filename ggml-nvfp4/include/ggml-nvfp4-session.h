/* ggml-nvfp4: many texts with one set of weights. Part of ggml-nvfp4.h, which states the rules of all functions.
 *
 * A model that is opened for sessions (gnv_model_options) holds many texts at once. Each is a session: it is fed with ids, and
 * a step lets some or all sessions go on together. Sessions open and close between steps; long prompts run in pieces beside
 * texts that go on by one token.
 *
 *     gnv_session_open(model, &a);  gnv_session_open(model, &b);
 *     gnv_session_feed(a, prompt, 1000, GNV_WANT_LIKELIEST);
 *     gnv_session_feed(b, &token, 1, GNV_WANT_LIKELIEST);
 *     do gnv_model_step(model, NULL, 0, NULL, &step); while (step.waiting > 0);
 *     gnv_session_likeliest(a, &id, NULL);
 *
 * What a session gives depends on what it was fed with and on the division of the ids into feeds, as that of
 * gnv_model_forward depends on its calls. Other sessions, their order and the number of steps change nothing, to the bit.
 *
 * Memory is planned when the model is opened. A call for which the rest is too small gives GNV_OUT_OF_MEMORY, says how much is
 * taken, and changes nothing; other sessions go on. The model's own text (gnv_model_forward, gnv_model_generate) has memory of
 * its own. Sessions hold texts without pictures.
 *
 * All functions run alone on their engine, like gnv_model_forward. After gnv_model_close the sessions of the model only know
 * gnv_session_close. */
#ifndef GGML_NVFP4_SESSION_H
#define GGML_NVFP4_SESSION_H

#include "ggml-nvfp4-text.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct gnv_session_t gnv_session_t;

typedef struct gnv_sessions_info {
    uint64_t struct_size;
    uint64_t sessions, open_sessions;           /* that the model was opened for; that exist */
    uint64_t positions, taken_positions;        /* in the caches of all, in pages; those that sessions have taken */
    uint64_t page;                              /* positions of a page: the unit in which sessions take them */
    uint64_t bytes;                             /* of the memory of all sessions */
    uint64_t step_positions;                    /* of longer feeds, in one step */
    uint64_t draft_sessions, drafting_sessions; /* that may draft at once, and that do */
    uint64_t draft_bytes;                       /* of memory for their drafting, beside `bytes` */
} gnv_sessions_info;
GNV_API gnv_status gnv_model_get_sessions(gnv_model_t * model, gnv_sessions_info * info);

/* A text at its start. GNV_OUT_OF_MEMORY: gnv_model_options.sessions exist. */
GNV_API gnv_status gnv_session_open(gnv_model_t * model, gnv_session_t ** out);
GNV_API void gnv_session_close(gnv_session_t * session); /* gives its memory back at once, or after the running call */

/* The result at the last position of a feed. */
typedef enum gnv_want GNV_INT {
    GNV_WANT_NOTHING = 0,
    GNV_WANT_LIKELIEST = 1, /* the largest logit of the tokens of the model's tokenizer, or of all ids without one */
    GNV_WANT_LOGITS = 2,    /* F32 [vocabulary] */
    GNV_WANT_EMBEDDING = 3, /* F32 [hidden]: the last hidden state after the final norm; no logits are computed */
    /* What one gnv_session_pick needs to go on with its series: with temperature alone the token, which the device draws; with
     * top_k, min_p or temperature 0 a few of the largest logits, where the device has memory of its own; else all. For
     * gnv_session_numbers they are no logits. */
    GNV_WANT_PICK = 4
} gnv_want;

/* The `count` ids that come next, at least one; takes the room for them, and computes nothing. GNV_INVALID_ARGUMENT: an id
 * outside the vocabulary, a text longer than the model's capacity, ids of the last feed that still wait. */
GNV_API gnv_status gnv_session_feed(gnv_session_t * session, const int32_t * ids, size_t count, gnv_want want);

/* From now on the draft head guesses up to `draft` tokens behind a feed of one id, of which the last pass gave a result, and the
 * same pass checks them (docs/embed.md); up to GNV_MOST_DRAFTS; GNV_DRAFT_AUTO: two, until tokens without are found to be faster;
 * 0: none, as at first. What the session gives is the same, to the bit, beside any sessions with drafting or without. A feed of the
 * one id that was guessed has its result at once: no id waits, and no step is needed. So feed and pick until one
 * waits: a step of other sessions drops the guesses that are left.
 *
 * Ask before the prompt: the head guesses better if it has seen it. Of guesses a session may take a page more than its text.
 * A session drafts until it is closed; a copy only once it is asked to; counts begin anew with each call, and after
 * gnv_session_reset and _assign. GNV_OUT_OF_MEMORY: gnv_model_options.draft_sessions draft. GNV_UNSUPPORTED: the model was opened
 * for none. GNV_INVALID_ARGUMENT: another number. */
GNV_API gnv_status gnv_session_draft(gnv_session_t * session, int32_t draft);

typedef struct gnv_step_options {
    uint64_t struct_size;
    gnv_progress_callback progress; /* positions, counted as gnv_progress says */
    void * user;
} gnv_step_options;
static inline void gnv_step_options_init(gnv_step_options * options) {
    memset(options, 0, sizeof *options);
    options->struct_size = sizeof *options;
}

typedef struct gnv_step_result {
    uint64_t struct_size;
    uint64_t sessions, positions; /* that went on, and by how many positions */
    uint64_t waiting;             /* ids of these sessions that wait for the next step */
} gnv_step_result;

/* Lets `sessions` of the model go on, each named once; NULL with a count of 0: all. Feeds of one id run together in one pass,
 * pieces of longer feeds in a second, the oldest feeds first. Sessions without waiting ids are left out. `result` may be NULL.
 *
 * When a pass fails, or its progress callback stops it, the sessions of this pass are at their start again, without ids;
 * those of the other pass and all others are as if there had been no failure: gnv_session_get_info tells. */
GNV_API gnv_status gnv_model_step(gnv_model_t * model, gnv_session_t * const * sessions, size_t count,
                                  const gnv_step_options * options, gnv_step_result * result);

typedef struct gnv_session_info {
    uint64_t struct_size;
    uint64_t positions;                       /* that the caches hold */
    uint64_t waiting;                         /* ids of the last feed */
    gnv_want has;                             /* the result that can be read: that of the last feed, once no id waits */
    int32_t draft;                            /* as asked for; 0: it does not draft */
    uint64_t drafted, accepted, draft_passes; /* as in gnv_generate_result, of the steps that it was in */
    double draft_gain;
    uint64_t draft_end; /* single ids after which GNV_DRAFT_AUTO stopped */
} gnv_session_info;
GNV_API gnv_status gnv_session_get_info(gnv_session_t * session, gnv_session_info * info);

/* Results stay until the next feed. GNV_INVALID_ARGUMENT: the session has no such result. */
/* The likeliest next token, the lower id of equal ones; `logit` may be NULL. GNV_BAD_VALUE: its logit is not finite. */
GNV_API gnv_status gnv_session_likeliest(gnv_session_t * session, int32_t * id, float * logit);
/* A token chosen from the logits (GNV_WANT_LOGITS, GNV_WANT_PICK), as gnv_model_generate chooses one with these options, of which
 * only those that say how count. GNV_INVALID_ARGUMENT: after GNV_WANT_PICK, other options than those of its series, which need
 * more logits. Options begin a series of draws with their seed; NULL goes on with that series, or begins one with the
 * defaults. Options without `id`: begin a series and choose nothing, while no id waits; the next feed with GNV_WANT_PICK then
 * gives what its first choice needs. on_logits is called by all calls of its series, not by those of copies: it and its user
 * live until the next series, gnv_session_assign or _reset, or the end of the session. repetition_penalty counts the ids fed since
 * the session was opened, reset or restored. GNV_UNSUPPORTED: options with `draft`; that is for gnv_session_draft. A text whose
 * tokens are picked and fed one by one equals that of gnv_model_generate with the same seed. */
GNV_API gnv_status gnv_session_pick(gnv_session_t * session, const gnv_generate_options * options, int32_t * id);
/* Logits or embedding; `capacity` in numbers, *written may be NULL. */
GNV_API gnv_status gnv_session_numbers(gnv_session_t * session, float * numbers, size_t capacity, size_t * written);

/* The text of picked ids as an answer shows it, and where the answer ends: as gnv_model_generate tells its callback. Of the
 * options max_tokens, stop_ids, stop_texts and tokenizer count. The text outlives the model and the tokenizer. */
typedef struct gnv_shown_text_t gnv_shown_text_t;
GNV_API gnv_status gnv_shown_text_create(gnv_model_t * model, const gnv_generate_options * options,
                                         gnv_shown_text_t ** out);
GNV_API void gnv_shown_text_destroy(gnv_shown_text_t * text);

typedef struct gnv_shown_token {
    uint64_t struct_size;
    const char * text; /* as in gnv_token; valid until the next call with this gnv_shown_text_t */
    uint64_t text_size, answer_size;
    uint64_t tokens;    /* so far, this one included */
    int32_t is_last;    /* 1: the answer ends here */
    gnv_stop stop;      /* of the last token: why */
    uint64_t stop_text; /* GNV_STOP_TEXT: which of stop_texts, from 0 */
} gnv_shown_token;
/* The next id. `is_full`: 1 where the session has no position for it, so that it is the last (GNV_STOP_CAPACITY) and text
 * that waits comes out; else 0. GNV_INVALID_ARGUMENT, without a change: an id that is no token, an answer that has ended. */
GNV_API gnv_status gnv_shown_text_push(gnv_shown_text_t * text, int32_t id, int32_t is_full, gnv_shown_token * token);

/* A second session with the same text, which goes on by itself; also the way to use one prefix for many texts. Full pages are
 * shared, so a copy takes little of the positions. Refused while ids wait, as the functions below are. */
GNV_API gnv_status gnv_session_copy(gnv_session_t * session, gnv_session_t ** out);
/* `session` becomes what `from`, of the same model, is. A text cannot be shortened, because linear attention keeps no past: to
 * go back, take a copy where the text may go back to, and assign it as often as needed. */
GNV_API gnv_status gnv_session_assign(gnv_session_t * session, const gnv_session_t * from);
GNV_API gnv_status gnv_session_reset(gnv_session_t * session); /* to the start of a text; waiting ids are dropped */

/* The state of a text, without results, in memory or in a new file: it goes on with the same bits in any process that opens the
 * same model with the same precision, weights_only, cache_dtype and kind of device. The bytes hold a checksum and the model's
 * fingerprint.
 * GNV_FORMAT: damaged; GNV_MODEL: of another model or options; GNV_ALREADY_EXISTS: `path` is not replaced.
 * gnv_session_export with NULL and a capacity of 0 only gives the size. */
GNV_API gnv_status gnv_session_export(gnv_session_t * session, void * bytes, size_t capacity, size_t * size);
GNV_API gnv_status gnv_session_import(gnv_model_t * model, const void * bytes, size_t size, gnv_session_t ** out);
GNV_API gnv_status gnv_session_save(gnv_session_t * session, const char * path);
GNV_API gnv_status gnv_session_load(gnv_model_t * model, const char * path, gnv_session_t ** out);

#ifdef __cplusplus
}
#endif

#endif
