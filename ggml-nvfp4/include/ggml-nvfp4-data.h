/* ggml-nvfp4: tokenizer, chat template and calibration data. Part of ggml-nvfp4.h, which states the rules of all
 * functions. */
#ifndef GGML_NVFP4_DATA_H
#define GGML_NVFP4_DATA_H

#include "ggml-nvfp4-base.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Tokenizer ------------------------------------------------------------------------------------------------------- */
/* The byte-level BPE of a checkpoint's tokenizer.json, with the ids of the `tokenizers` library. */
typedef struct gnv_tokenizer_t gnv_tokenizer_t;

typedef enum gnv_tokenizer_flags GNV_INT {
    GNV_TOKENIZER_NO_SPECIAL = 1,   /* encode: control strings such as "<|im_end|>" are ordinary text */
    GNV_TOKENIZER_SKIP_SPECIAL = 2, /* decode: leaves special tokens out */
    GNV_TOKENIZER_BYTES = 4         /* decode: unchanged bytes, not U+FFFD for invalid UTF-8 */
} gnv_tokenizer_flags;
/* `path`: a model folder or a tokenizer.json. GNV_UNSUPPORTED names the first step of the file that is not byte-level BPE. */
GNV_API gnv_status gnv_tokenizer_load(gnv_engine_t * engine, const char * path, gnv_tokenizer_t ** out);
GNV_API void gnv_tokenizer_destroy(gnv_tokenizer_t * tokenizer);
/* One more than the largest id; further rows of a model's embedding are no tokens. 0 for NULL. */
GNV_API int32_t gnv_tokenizer_vocab_size(const gnv_tokenizer_t * tokenizer);
/* Encodes `size` bytes of UTF-8, NUL too. *count receives the number of ids; the first min(*count, capacity) go to `ids`.
 * GNV_FORMAT names the byte where UTF-8 ends; GNV_INVALID_ARGUMENT: more than 1 MiB without a place to cut it; GNV_UNSUPPORTED:
 * the file's patterns would look at every byte dozens of times. `flags`: 0 or GNV_TOKENIZER_NO_SPECIAL. */
GNV_API gnv_status gnv_tokenizer_encode(gnv_tokenizer_t * tokenizer, const char * text, size_t size, uint32_t flags,
                                        int32_t * ids, size_t capacity, size_t * count);
/* From now on gnv_tokenizer_encode calls `progress` while it works, with `seconds` alone. NULL: none, as at first. */
GNV_API gnv_status gnv_tokenizer_set_progress(gnv_tokenizer_t * tokenizer, gnv_progress_callback progress, void * user);
/* The text of `count` ids. GNV_INVALID_ARGUMENT names the position of an id that is no token. `flags`: of the other two. */
GNV_API gnv_status gnv_tokenizer_decode(gnv_tokenizer_t * tokenizer, const int32_t * ids, size_t count, uint32_t flags,
                                        gnv_text_t ** out);

/* The text of `conversation`, JSON of `size` bytes: {"messages": [..]} and other variables of the chat template, which is the
 * checkpoint's or `template_file` (or NULL): docs/chat.md. `local_time`: seconds since 1970 on the clock that it shows.
 * Calls of tools, reasoning and tools that the template passes over are a warning (log) that names message and member. */
GNV_API gnv_status gnv_tokenizer_render_chat(gnv_tokenizer_t * tokenizer, const char * conversation, size_t size,
                                             const char * template_file, int64_t local_time, gnv_text_t ** out);

/* ---- Calibration data ------------------------------------------------------------------------------------------------ */
/* Token sequences to run through a model. */
typedef struct gnv_dataset_t gnv_dataset_t;

typedef struct gnv_dataset_options {
    uint64_t struct_size;
    /* "[ALIAS@]PATH[:FIELD][=WEIGHT]" each; docs/sources.md lists the files, folders and fields that are read. FIELD is taken
     * as text; without it the fields decide. Samples are dealt out by weight (1). ALIAS is the name of a known data set of
     * which PATH is a copy: open-platypus, gsm8k, oasst1, the-stack, pg19. */
    const char * const * sources;
    size_t source_count;
    const char * tokens_file;   /* instead of sources: {"input_ids": [[...]], "attention_mask": [[...]]} */
    const char * text_template; /* "model", "alpaca", "chatml", "none"; NULL: the one that fits the fields */
    uint64_t samples;           /* sequences; 256; 0: every row */
    uint64_t sequence_length;   /* tokens; longer documents lose their end; 2048 */
    uint64_t seed;              /* 42; rows are chosen in one pass, without replacement, the same on every machine */
    int32_t no_shuffle;         /* the first rows in file order */
    int32_t pad;                /* fill up to sequence_length with the pad token, masked: what llm-compressor does */
    int32_t pack;               /* several documents a sequence, none seeing another */
    uint64_t ram_bytes;         /* budget for reading, and for the sequences; 0: most of what is free */
    gnv_progress_callback progress; /* while data is read and encoded, with `seconds` alone. NULL: none */
    void * user;
    int32_t chunk;    /* a document gives all its tokens, one sequence after another, in place of its first ones */
    int32_t skip_bad; /* leave out records whose pictures cannot be used, and count them; else they are an error */
} gnv_dataset_options;
static inline void gnv_dataset_options_init(gnv_dataset_options * options) {
    memset(options, 0, sizeof *options);
    options->struct_size = sizeof *options;
    options->samples = 256;
    options->sequence_length = 2048;
    options->seed = 42;
}
/* Reads every source once; rows and ids do not depend on the budget. Fewer usable rows than asked for are a warning (log and
 * summary), and so are calls of tools, reasoning and tools that the texts of rows lack; no usable row is a failure.
 * GNV_OUT_OF_MEMORY names what has no room; GNV_FORMAT: 100 MB of blanks, 5 M empty rows. */
GNV_API gnv_status gnv_dataset_open(gnv_engine_t * engine, const gnv_tokenizer_t * tokenizer,
                                    const gnv_dataset_options * options, gnv_dataset_t ** out);
GNV_API void gnv_dataset_destroy(gnv_dataset_t * dataset);
GNV_API uint64_t gnv_dataset_size(const gnv_dataset_t * dataset); /* sequences; 0 for NULL */

/* The part of a sequence from one row; it ends at the begin of the next. */
typedef struct gnv_document {
    uint32_t begin;
    uint32_t source; /* position in gnv_dataset_options.sources */
    uint64_t row;    /* from 0, counted over all files of the source */
} gnv_document;

typedef struct gnv_sequence {
    uint64_t struct_size;
    uint64_t length;
    const int32_t * ids;
    const uint8_t * mask; /* 1 for tokens, 0 for pads; NULL: no pads */
    const gnv_document * documents;
    uint64_t document_count;
} gnv_sequence;

/* The data set owns the arrays: ids and mask are valid as long as it lives, documents until the next call. */
GNV_API gnv_status gnv_dataset_sequence(gnv_dataset_t * dataset, uint64_t index, gnv_sequence * out);
/* A summary: tokens, truncation, padding, lengths, duplicates, omitted rows (schema ggml-nvfp4.dataset.1). */
GNV_API gnv_status gnv_dataset_text(const gnv_dataset_t * dataset, gnv_text_format format, gnv_text_t ** out);
/* A new file in the format of tokens_file, with the chosen rows and a hash in addition. */
GNV_API gnv_status gnv_dataset_save_tokens(const gnv_dataset_t * dataset, const char * path);

#ifdef __cplusplus
}
#endif

#endif
