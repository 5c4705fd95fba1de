/* ggml-nvfp4: check a result, and measure its predictions. Part of ggml-nvfp4.h, which states the rules of all
 * functions. */
#ifndef GGML_NVFP4_VERIFY_H
#define GGML_NVFP4_VERIFY_H

#include "ggml-nvfp4-data.h"
#include "ggml-nvfp4-hub.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Verify ---------------------------------------------------------------------------------------------------------- */
/* The findings of the checks: whether loaders can load a checkpoint, and whether it matches its source. */
typedef struct gnv_report_t gnv_report_t;

typedef struct gnv_verify_options {
    uint64_t struct_size;
    int32_t structure_only; /* reads headers and configs, no values */
    gnv_progress_callback progress;
    void * user;
    /* 1: the JSON report omits SHA-256 of preserved tensors; they are compared byte for byte anyway. */
    int32_t no_checksums;
    int32_t device;           /* with a source: CUDA quantizes it again, and the report counts equal blocks; 0: not */
    const char * report_file; /* for gnv_report_write later: fails now if that cannot be made; NULL: none */
    /* gnv_verify only: read the source from there, each file of weights once; `source` is its folder. NULL: all files are in
     * `source`. */
    const gnv_hub_stream_t * stream;
    int32_t strict; /* 1: a report with warnings, or with suspicious figures, says that it failed */
    /* gnv_verify only. 1: also compares the files with the SHA-256 that the checkpoint's README.md lists, for which all of them
     * are read. */
    int32_t hashes;
} gnv_verify_options;
static inline void gnv_verify_options_init(gnv_verify_options * options) {
    memset(options, 0, sizeof *options);
    options->struct_size = sizeof *options;
}
/* Examines `checkpoint`, any producer's NVFP4 checkpoint in the compressed-tensors format; with `source` (may be NULL), the
 * BF16 checkpoint it was made from, compares weights and preserved tensors as well. Faults are findings of the report. */
GNV_API gnv_status gnv_verify(gnv_engine_t * engine, const char * checkpoint, const char * source,
                              const gnv_verify_options * options, gnv_report_t ** out);
GNV_API void gnv_report_destroy(gnv_report_t * report);

typedef struct gnv_report_info {
    uint64_t struct_size;
    uint64_t errors;                      /* a loader refuses the checkpoint, or computes with wrong numbers */
    uint64_t warnings;                    /* works in some loaders, or is probably not intended */
    uint64_t notes;                       /* information; not a fault */
    uint64_t checks_done, checks_skipped; /* skipped: their inputs are absent, or not requested */
    uint64_t failed_gates, suspicions;    /* of an added evaluation and an added canary */
} gnv_report_info;
GNV_API gnv_status gnv_report_get_info(const gnv_report_t * report, gnv_report_info * info);
/* Tables and findings for people, or everything for programs (schema ggml-nvfp4.verify.1). */
GNV_API gnv_status gnv_report_text(const gnv_report_t * report, gnv_text_format format, gnv_text_t ** out);
/* Makes a new file of the whole report, with an added evaluation: a page for a browser that needs no other file (.html), or
 * the JSON text (.json). Both have the same facts. */
GNV_API gnv_status gnv_report_write(const gnv_report_t * report, const char * path);

/* A test of the checks: injects some forty faults, one by one, into a view of the checkpoint (fewer without `source`).
 * `escaped` (may be NULL) receives the number of faults without a finding (schema ggml-nvfp4.self_test.1). */
GNV_API gnv_status gnv_verify_self_test(gnv_engine_t * engine, const char * checkpoint, const char * source,
                                        const gnv_verify_options * options, gnv_text_format format,
                                        gnv_text_t ** report, uint64_t * escaped);

/* ---- Evaluation ------------------------------------------------------------------------------------------------------ */
/* The comparison of a checkpoint's predictions with its source's, at every position of the same text. */
typedef struct gnv_evaluation_t gnv_evaluation_t;

/* A variant to compare with the source. Bits. */
typedef enum gnv_line GNV_INT {
    GNV_LINE_W4A4 = 1,        /* weights and inputs in NVFP4, as Blackwell kernels compute */
    GNV_LINE_W4A16 = 2,       /* weights alone */
    GNV_LINE_ACTIVATIONS = 4, /* inputs alone: the source's weights with the checkpoint's input scales */
    GNV_LINE_BF16 = 8         /* the source in BF16 arithmetic: the effect of rounding alone */
} gnv_line;

typedef struct gnv_evaluate_options {
    uint64_t struct_size;
    const gnv_dataset_t * dataset; /* required; every document, or piece of a document, is a window */
    uint32_t lines;                /* a sum of gnv_line; lines that the checkpoint does not allow are left out */
    int32_t shared_expert_scale;   /* the smallest input scale for all experts of a layer, as some kernels do */
    gnv_precision precision;       /* of all lines and of the source */
    uint64_t ram_bytes;            /* for everything; 0: most of the free memory */
    const char * scratch_folder;   /* for hidden states that do not fit; NULL: they must fit */
    /* The source's predictions, so that many checkpoints share one run of the source: written to a new file, or read
     * from a file for the same data. Not both. With `logits` only GNV_LINE_ACTIVATIONS needs the source folder. */
    const char * save_logits;
    const char * logits;
    /* Gates on W4A4 (W4A16 without input scales); below 0: off; a NaN is refused. */
    double max_kl;               /* mean KL divergence in nats */
    double min_top1;             /* share of positions with the same most likely token */
    double max_perplexity_ratio; /* of the checkpoint to the source */
    double max_room;             /* of an input scale: its largest value / the largest input */
    const char * baseline;       /* a JSON report of another checkpoint on the same data; a worse result fails */
    gnv_progress_callback progress;
    void * user;
    int32_t device;        /* of the forward passes */
    uint64_t device_bytes; /* budget of that device's memory; 0: most of the free memory. The CPU ignores it */
    /* Also measures, for modules of each kind in so many ranges of layers, the KL with them in the source's precision; 0: not. */
    int32_t sensitivity_ranges;
    const int32_t * devices; /* several CUDA devices of one model instead of `device`, as in gnv_quantize_options */
    uint64_t device_count;
    /* So many positions with the largest KL are in the JSON of a line, with the text before them; 0: none. */
    int32_t contexts;
    /* A folder, which need not exist, for the state to go on with if the call is stopped: the same call goes on with it to
     * the same result, on any number of threads, budget and number of devices; GNV_ALREADY_EXISTS names what differs. NULL: none. */
    const char * state_folder;
    gnv_resume resume; /* how often it is saved; GNV_RESUME_OFF: not, as without `state_folder` */
} gnv_evaluate_options;
static inline void gnv_evaluate_options_init(gnv_evaluate_options * options) {
    memset(options, 0, sizeof *options);
    options->struct_size = sizeof *options;
    options->lines = GNV_LINE_W4A4 | GNV_LINE_W4A16 | GNV_LINE_ACTIVATIONS;
    options->max_kl = options->min_top1 = options->max_perplexity_ratio = options->max_room = -1;
    options->resume = GNV_RESUME_ON;
}
/* `source` may be NULL with `logits`. A gate that fails is a result, not a failure of the call. The result is the same for
 * any number of threads, budget of memory and instruction set; between a CPU and CUDA it differs by the rounding of BF16.
 * GNV_MODEL when the two are not of one architecture, GNV_OUT_OF_MEMORY with the least budget that is enough. */
GNV_API gnv_status gnv_evaluate(gnv_engine_t * engine, const char * checkpoint, const char * source,
                                const gnv_evaluate_options * options, gnv_evaluation_t ** out);
GNV_API void gnv_evaluation_destroy(gnv_evaluation_t * evaluation);
/* Removes `state_folder`, which stays otherwise: call it when the texts of the evaluation are where they belong. */
GNV_API gnv_status gnv_evaluation_remove_state(gnv_evaluation_t * evaluation);

/* Fails where gnv_evaluate would because of a file or folder that the options name. Opens no checkpoint, leaves nothing. */
GNV_API gnv_status gnv_evaluate_check(gnv_engine_t * engine, const gnv_evaluate_options * options);

typedef struct gnv_evaluation_info {
    uint64_t struct_size;
    uint32_t lines;                           /* computed ones */
    uint64_t windows, positions, predictions; /* predictions: positions with a next token */
    uint64_t gates, failed_gates;
    uint64_t suspicions; /* implausible: too good, or a scale without an explanation */
} gnv_evaluation_info;
GNV_API gnv_status gnv_evaluation_get_info(const gnv_evaluation_t * evaluation, gnv_evaluation_info * info);

/* Means over all positions, weighted alike, and their standard errors by window. */
typedef struct gnv_evaluation_line {
    uint64_t struct_size;
    double kl, kl_error, kl_median, kl_99, kl_maximum; /* KL(source || line), nats */
    double same_top, same_top_error;
    double source_perplexity, perplexity, perplexity_ratio, perplexity_ratio_error;
    double probability_change_rms; /* of the true token */
    int32_t worst_layer;           /* whose block adds most error to the hidden states; -1: not known */
} gnv_evaluation_line;
/* GNV_NOT_FOUND when the line was not computed. */
GNV_API gnv_status gnv_evaluation_get_line(const gnv_evaluation_t * evaluation, gnv_line line,
                                           gnv_evaluation_line * out);
/* Tables for people, everything for programs (schema ggml-nvfp4.evaluation.1), or a table for a model card. */
GNV_API gnv_status gnv_evaluation_text(const gnv_evaluation_t * evaluation, gnv_text_format format, gnv_text_t ** out);
/* Adds the evaluation to the report: to both its texts and its info. The evaluation may be destroyed afterwards. */
GNV_API gnv_status gnv_report_add_evaluation(gnv_report_t * report, const gnv_evaluation_t * evaluation);

/* ---- Length canary --------------------------------------------------------------------------------------------------- */
/* Greedy answers of a source and of its quantized checkpoint to the same prompts: their lengths, how many run into the limit,
 * how many repeat themselves (docs/quality.md). */
typedef struct gnv_canary_t gnv_canary_t;

typedef struct gnv_canary_options {
    uint64_t struct_size;
    uint64_t max_tokens;          /* of an answer; 0: 256 */
    const char * const * prompts; /* UTF-8; NULL with a count of 0: the 40 short ones of the library, in 20 languages */
    uint64_t prompt_count;
    int32_t thinking; /* 0: the source's chat template is told not to let the model think; 1: the template decides */
    uint32_t lines;   /* GNV_LINE_W4A4 and GNV_LINE_W4A16; lines that the checkpoint does not allow are left out */
    gnv_precision precision;
    int32_t device; /* that computes */
    const int32_t *
        devices; /* several CUDA devices of one model instead of `device`, which divide the layers; NULL: none */
    uint64_t device_count;
    uint64_t ram_bytes;    /* for weights and caches; 0: most of the free memory */
    uint64_t device_bytes; /* of each device's memory; 0: most of the free memory */
    /* Gate on W4A4 (W4A16 without input scales): mean length of its answers / of the source's; below 0: off. */
    double max_growth;
    gnv_progress_callback progress; /* in positions: tokens that are written, of the largest number that there can be */
    void * user;
} gnv_canary_options;
static inline void gnv_canary_options_init(gnv_canary_options * options) {
    memset(options, 0, sizeof *options);
    options->struct_size = sizeof *options;
    options->lines = GNV_LINE_W4A4 | GNV_LINE_W4A16;
    options->max_growth = -1;
}
/* Both folders in full: tokenizer, chat template and stop ids are the source's. A gate that fails is a result. The result is the
 * same for any number of threads and budget; between a CPU and CUDA it differs by rounding. Fails like gnv_evaluate;
 * GNV_INVALID_ARGUMENT names a prompt that cannot be used. */
GNV_API gnv_status gnv_canary(gnv_engine_t * engine, const char * checkpoint, const char * source,
                              const gnv_canary_options * options, gnv_canary_t ** out);
GNV_API void gnv_canary_destroy(gnv_canary_t * canary);
/* Fails where gnv_canary would because of the options, the prompts or the source's tokenizer and template. Reads no weights. */
GNV_API gnv_status gnv_canary_check(gnv_engine_t * engine, const char * source, const gnv_canary_options * options);

typedef struct gnv_canary_info {
    uint64_t struct_size;
    uint64_t prompts;
    uint32_t lines; /* computed ones, beside the source's */
    uint64_t gates, failed_gates;
    uint64_t suspicions; /* longer, more often at the limit, or more often repeating than the source, beyond chance */
} gnv_canary_info;
GNV_API gnv_status gnv_canary_get_info(const gnv_canary_t * canary, gnv_canary_info * info);

typedef struct gnv_canary_line {
    uint64_t struct_size;
    double mean_tokens;       /* of an answer, without its stop id */
    double growth;            /* mean_tokens / the source's */
    double capped, repeating; /* shares of answers that the limit ended; that repeat themselves */
    double equal;             /* share of answers that are the source's, token by token */
} gnv_canary_line;
/* `line` 0: the source. GNV_NOT_FOUND when the line was not computed. */
GNV_API gnv_status gnv_canary_get_line(const gnv_canary_t * canary, gnv_line line, gnv_canary_line * out);
/* A table for people, everything for programs (schema ggml-nvfp4.canary.1), or a table for a model card. */
GNV_API gnv_status gnv_canary_text(const gnv_canary_t * canary, gnv_text_format format, gnv_text_t ** out);
/* Adds the canary to the report: to its texts and its info. The canary may be destroyed afterwards. */
GNV_API gnv_status gnv_report_add_canary(gnv_report_t * report, const gnv_canary_t * canary);

#ifdef __cplusplus
}
#endif

#endif
