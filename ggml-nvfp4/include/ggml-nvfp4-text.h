/* ggml-nvfp4: models that compute: forward passes, pictures, text. Part of ggml-nvfp4.h, which states the rules of all
 * functions. */
#ifndef GGML_NVFP4_TEXT_H
#define GGML_NVFP4_TEXT_H

#include "ggml-nvfp4-data.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Text model ------------------------------------------------------------------------------------------------------ */
/* A checkpoint that computes: BF16, or NVFP4 in the naming of llm-compressor. A model holds one text at a time in its
 * caches; every call continues it. Results do not depend on threads, on memory or on the division of a text into calls
 * at multiples of 64 positions, with more than one in each; other divisions change the last bits.
 *
 * A call that fails while it computes (a NaN, a callback that stops) leaves the model as gnv_model_reset does: at the
 * start of a text. A call that refuses its arguments changes nothing. */
typedef struct gnv_model_t gnv_model_t;

/* The keys and values of texts. FP8: E4M3 codes, with a power of two for each position and head (docs/architecture.md): half of the
 * bytes of BF16, a quarter of F32, and slightly other results. */
typedef enum gnv_cache_dtype GNV_INT {
    GNV_CACHE_AUTO = 0, /* that of activations: F32 on the CPU, BF16 on CUDA */
    GNV_CACHE_FP8 = 1
} gnv_cache_dtype;

typedef struct gnv_model_options {
    uint64_t struct_size;
    gnv_precision precision;
    int32_t weights_only; /* W4A16 also where the checkpoint has input scales: activations are not quantized */
    uint64_t ram_bytes;   /* for weights and caches; 0: most of what is free. What does not fit is read for each call */
    uint64_t capacity;    /* positions that the caches hold; 0: 4096, or all that the model has if fewer */
    int32_t device;       /* that computes */
    /* Of its memory; 0: most of what is free. ram_bytes is for weights on their way then, and where the device has no room for
     * all, for the experts: the device reads those that a token chooses, and keeps some. */
    uint64_t device_bytes;
    gnv_progress_callback progress; /* while weights are loaded */
    void * user;
    uint64_t sessions; /* texts at once besides the model's own, of up to `capacity` positions: ggml-nvfp4-session.h */
    uint64_t session_positions; /* in the caches of all sessions together; 0: as many as each can hold */
    /* Several CUDA devices of one model instead of `device`: each keeps consecutive layers, device_bytes is the budget of each,
     * and results are those of one. The log tells what lies where. NULL with 0: `device` alone. */
    const int32_t * devices;
    uint64_t device_count;
    /* 1: the model's draft head (MTP) comes with it, for gnv_generate_options.draft. Its weights, caches and copies of states
     * belong to ram_bytes or device_bytes, and all weights must fit. GNV_UNSUPPORTED: the checkpoint has no draft head that can be
     * run, or there are several devices. */
    int32_t drafts;
    gnv_cache_dtype cache_dtype; /* of the model's own text, of sessions and of the draft head */
    /* With `drafts`: sessions that may draft at once (gnv_session_draft); their memory is planned, too. */
    uint64_t draft_sessions;
} gnv_model_options;
static inline void gnv_model_options_init(gnv_model_options * options) {
    memset(options, 0, sizeof *options);
    options->struct_size = sizeof *options;
}
/* `folder`: config.json and safetensors files. GNV_NOT_FOUND: no such folder, or no config.json in it. GNV_MODEL names the
 * first tensor that is not what the config says. GNV_OUT_OF_MEMORY names the least budget that would do. */
GNV_API gnv_status gnv_model_open(gnv_engine_t * engine, const char * folder, const gnv_model_options * options,
                                  gnv_model_t ** out);
GNV_API void gnv_model_close(gnv_model_t * model);

typedef struct gnv_model_info {
    uint64_t struct_size;
    const char * description; /* one line for people; valid until the model is closed, like stop_ids */
    uint64_t hidden, vocabulary, layers;
    uint64_t experts, experts_per_token; /* 0 for dense models */
    uint64_t max_positions;              /* of the model */
    uint64_t capacity, positions;        /* of the caches: all positions, and those that hold the text so far */
    uint64_t quantized_modules;          /* Linears in NVFP4 */
    int32_t quantizes_inputs;            /* 1: W4A4 */
    int32_t weights_stay; /* 1: in the memory of the device; 0: read for each call, or see cached_experts */
    /* generation_config.json, or the defaults of the Transformers library */
    int32_t samples; /* 0: the likeliest token */
    float temperature;
    int32_t top_k; /* 0: all */
    float top_p;
    const int32_t * stop_ids;
    uint64_t stop_count;
    float min_p, repetition_penalty;
    uint64_t draft_bytes; /* of memory for drafting; 0: the model was opened without */
    /* Experts are in host memory, and so many of each layer in the device's as well, those that are chosen most; 0: they are not */
    uint64_t cached_experts;
    /* Bytes of all caches: states of texts, with those of sessions, without those for drafting */
    uint64_t cache_bytes;
    /* By so much a token reads less of the weights than they have in the checkpoint: the CPU keeps BF16 in 12 bits, without loss */
    uint64_t saved_bytes;
} gnv_model_info;
GNV_API gnv_status gnv_model_get_info(gnv_model_t * model, gnv_model_info * info);
/* Discards the text; the next call starts another. */
GNV_API gnv_status gnv_model_reset(gnv_model_t * model);

/* ---- Pictures -------------------------------------------------------------------------------------------------------- */
/* An image or a video as the vision tower of the model in a folder takes it; GNV_UNSUPPORTED: it has none. In a text it stands
 * at placeholders, one for each of its tokens. Lists of pictures are in the order of the text. */
typedef struct gnv_picture_t gnv_picture_t;
typedef struct gnv_picture_info {
    uint64_t struct_size;
    int64_t grid[3];            /* groups of frames, rows and columns of patches */
    uint64_t tokens;            /* placeholders in a text */
    uint64_t patches, columns;  /* of pixel_values */
    const float * pixel_values; /* [patches, columns]; as long as the picture lives */
    int32_t is_video;
} gnv_picture_info;
GNV_API gnv_status gnv_picture_get_info(gnv_picture_t * picture, gnv_picture_info * info);

/* `path`: a PNG, JPEG or WebP file, or a folder of frames, `frame_rate` a second (0: 24). Or the bytes of such a file. */
GNV_API gnv_status gnv_picture_open(gnv_engine_t * engine, const char * model_folder, const char * path,
                                    double frame_rate, gnv_picture_t ** out);
GNV_API gnv_status gnv_picture_decode(gnv_engine_t * engine, const char * model_folder, const void * bytes, size_t size,
                                      gnv_picture_t ** out);
/* Of `count` pixel values, as the model's processor orders them, and their grid. */
GNV_API gnv_status gnv_picture_create(gnv_engine_t * engine, const char * model_folder, const float * pixel_values,
                                      size_t count, const int64_t * grid, int32_t is_video, gnv_picture_t ** out);
GNV_API void gnv_picture_destroy(gnv_picture_t * picture);

/* A prompt for gnv_tokenizer_encode: each placeholder of `text`, one for each picture, becomes what the model's processor
 * writes for it. Without placeholders pictures come before the text. */
GNV_API gnv_status gnv_picture_text(gnv_tokenizer_t * tokenizer, const char * text, size_t size,
                                    const gnv_picture_t * const * pictures, size_t count, gnv_text_t ** out);
/* [3, count]: time, height and width of each of `ids`, with which the text goes on. */
GNV_API gnv_status gnv_model_picture_positions(gnv_model_t * model, const int32_t * ids, size_t count,
                                               const gnv_picture_t * const * pictures, size_t picture_count,
                                               int32_t * positions);

/* What a module gave: "layer.3.self_attn.q_norm", "layer.3" (the block's output), "embed", "norm", "logits", and, of pictures,
 * "block.3", "merger". Names are the reference's; "mlp.gate.1" and "mlp.gate.2" are the router's weights and choices. */
typedef struct gnv_activation {
    uint64_t struct_size;
    const char * name;
    const char * dtype; /* "F32" or "I32" */
    uint64_t dimensions;
    const int64_t * shape; /* C order; the first extent is a multiple of the positions */
    uint64_t bytes;
    const void * data;
} gnv_activation;

/* A result other than 0 stops the call with GNV_CANCELLED. Pointers in `activation` are valid until the callback returns. */
typedef int (*gnv_tap_callback)(void * user, const gnv_activation * activation);
GNV_API uint64_t gnv_model_tap_count(const gnv_model_t * model); /* activations that can be seen; 0 for NULL */
/* Name, dtype and shape of activation `tap`, in the order of the model, the vision tower's last, for a forward pass over 1 to
 * capacity `positions` (there: any number of patches) with the logits of all; data is NULL. Lives until the next call. */
GNV_API gnv_status gnv_model_tap_info(gnv_model_t * model, uint64_t tap, uint64_t positions, gnv_activation * info);
/* GNV_INVALID_ARGUMENT: no model has such an output; GNV_NOT_FOUND: this model has none. The message lists outputs. */
GNV_API gnv_status gnv_model_find_tap(gnv_model_t * model, const char * name, uint64_t * tap);

typedef struct gnv_forward_options {
    uint64_t struct_size;
    int32_t all_logits;             /* of every position; 0: of the last one */
    gnv_tap_callback tap;           /* receives activations as they are computed; may be NULL */
    void * user;                    /* for tap */
    const char * const * tap_names; /* the activations for tap */
    size_t tap_count;               /* 0: all */
    gnv_progress_callback progress; /* positions, counted as gnv_progress says */
    void * progress_user;
    const gnv_picture_t * const * pictures; /* whose placeholders are among the ids; NULL: none */
    size_t picture_count;
} gnv_forward_options;
static inline void gnv_forward_options_init(gnv_forward_options * options) {
    memset(options, 0, sizeof *options);
    options->struct_size = sizeof *options;
}
/* Lets the text go on by `count` ids, at least one, in one pass: memory for activations grows with count, so give a long
 * text in several calls. `logits` receives F32 [count or 1, vocabulary], *written how many numbers (it may be NULL);
 * logits may be NULL with a capacity of 0. GNV_INVALID_ARGUMENT: an id outside the vocabulary, a text longer than the
 * caches, too small a capacity (in numbers), an unknown tap. GNV_BAD_VALUE: the model computes NaN or Inf. */
GNV_API gnv_status gnv_model_forward(gnv_model_t * model, const int32_t * ids, size_t count,
                                     const gnv_forward_options * options, float * logits, size_t capacity,
                                     size_t * written);

typedef struct gnv_token {
    uint64_t struct_size;
    int32_t id;
    int32_t stop; /* 1: a stop id, and the last token */
    /* UTF-8 that this token completes, special tokens as written; "" inside a character. Text that may begin a stop text
     * waits for the next tokens; a stop text itself never comes. */
    const char * text;
    uint64_t text_size;
    uint64_t answer_size; /* of text, without a stop id's own text, which is at its end */
} gnv_token;

/* A result other than 0 ends the text. The pointers in `token` are valid until the callback returns. */
typedef int (*gnv_token_callback)(void * user, const gnv_token * token);

typedef struct gnv_logits {
    uint64_t struct_size;
    float * values; /* [vocabulary], by id; may be changed: -INFINITY keeps an id from being chosen */
    uint64_t vocabulary;
    const int32_t * ids; /* chosen by this call so far */
    uint64_t id_count;
} gnv_logits;

/* Called before each choice, before all other options of sampling. A result other than 0 ends the text. */
typedef int (*gnv_logits_callback)(void * user, const gnv_logits * logits);

typedef struct gnv_logit_bias {
    int32_t id;
    float bias; /* -100 to 100, added to the logit */
} gnv_logit_bias;

#define GNV_MOST_DRAFTS 15
#define GNV_DRAFT_AUTO  (-1)

typedef struct gnv_generate_options {
    uint64_t struct_size;
    uint64_t max_tokens;      /* 0: up to a stop id or the end of the caches */
    float temperature;        /* 0: the likeliest token; below 0: the model's own, see gnv_model_info */
    int32_t top_k;            /* 0: all; below 0: the model's own */
    float top_p;              /* above 0 to 1; below 0: the model's own */
    uint64_t seed;            /* 42 */
    const int32_t * stop_ids; /* NULL: the model's own; a pointer with a count of 0: none */
    size_t stop_count;
    const gnv_tokenizer_t * tokenizer; /* NULL: that of the model's folder, or GNV_NOT_FOUND */
    gnv_token_callback callback;       /* receives each token when it is chosen; may be NULL */
    void * user;
    gnv_progress_callback progress; /* positions of the prompt; also called, complete, while tokens are chosen */
    void * progress_user;
    const gnv_picture_t * const * pictures; /* whose placeholders are among the ids; NULL: none */
    size_t picture_count;
    float min_p;                               /* 0 to 1; 0: all; below 0: the model's own */
    float repetition_penalty;                  /* above 0; 1: none; below 0: the model's own */
    float presence_penalty, frequency_penalty; /* -2 to 2; 0: none */
    const gnv_logit_bias * logit_bias;         /* an id once; NULL: none */
    size_t logit_bias_count;
    const char * const * stop_texts; /* 64 at most, of 1 to 4096 bytes; each ends the text before it */
    size_t stop_text_count;
    gnv_logits_callback on_logits; /* may be NULL */
    void * logits_user;
    /* Tokens that the draft head guesses at a time, up to GNV_MOST_DRAFTS, which one pass checks; 0: none; GNV_DRAFT_AUTO: two,
     * until tokens without are found to be faster. The text is the same. Needs gnv_model_options.drafts. */
    int32_t draft;
} gnv_generate_options;
static inline void gnv_generate_options_init(gnv_generate_options * options) {
    memset(options, 0, sizeof *options);
    options->struct_size = sizeof *options;
    options->temperature = -1;
    options->top_k = -1;
    options->top_p = -1;
    options->seed = 42;
    options->min_p = -1;
    options->repetition_penalty = -1;
}

typedef enum gnv_stop GNV_INT {
    GNV_STOP_ID = 0,       /* a stop id was chosen */
    GNV_STOP_LENGTH = 1,   /* max_tokens */
    GNV_STOP_CAPACITY = 2, /* the caches are full */
    GNV_STOP_CALLBACK = 3, /* a callback asked to stop: not a failure */
    GNV_STOP_TEXT = 4      /* a stop text was written */
} gnv_stop;

typedef struct gnv_generate_result {
    uint64_t struct_size;
    uint64_t prompt_tokens;
    uint64_t tokens; /* chosen ones, a stop id included */
    gnv_stop stop;
    double prompt_seconds;      /* until the first token was chosen */
    double token_seconds;       /* for the others */
    uint64_t stop_text;         /* GNV_STOP_TEXT: which of stop_texts, from 0 */
    uint64_t drafted, accepted; /* tokens that were guessed, and those of them that came */
    uint64_t draft_passes;      /* passes that checked them */
    double draft_gain;  /* time of a token without drafting (the first few are) over that of one with; 0: not known */
    uint64_t draft_end; /* GNV_DRAFT_AUTO: tokens after which drafting stopped; 0: it did not */
} gnv_generate_result;

/* Continues the text with the `count` ids of a prompt, at least one, and then with chosen tokens, one after another. Each
 * choice, in this order: on_logits; logit_bias; repetition_penalty (of ids in the text so far: logit / penalty where it is
 * positive, else logit * penalty); frequency_penalty, times how often this call chose the id, and presence_penalty, once if
 * it did, are subtracted; temperature; min_p (ids with at least min_p times the largest probability); the top_k largest; the
 * fewest of those whose probabilities reach top_p; a draw. Equal logits: the lower id first. The same seed gives the same
 * tokens (docs/sampling.md). Rows of the embedding that are no tokens are never chosen. The last token is not in the caches
 * yet: give it first to continue. `result` may be NULL. Fails like gnv_model_forward; GNV_BAD_VALUE also if on_logits leaves a
 * NaN, or no id. */
GNV_API gnv_status gnv_model_generate(gnv_model_t * model, const int32_t * ids, size_t count,
                                      const gnv_generate_options * options, gnv_generate_result * result);

/* 1 if the ids of a text repeat themselves: a piece of up to 64 follows itself four times or more, over 32 ids or more, or
 * fewer than a quarter of the 4-grams of 64 ids are different ones. The rule of the length canary. 0 for no ids. */
GNV_API int32_t gnv_tokens_repeat(const int32_t * ids, size_t count);

#ifdef __cplusplus
}
#endif

#endif
