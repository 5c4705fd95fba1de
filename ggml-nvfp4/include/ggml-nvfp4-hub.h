/* ggml-nvfp4: download, upload and the model card. Part of ggml-nvfp4.h, which states the rules of all functions. */
#ifndef GGML_NVFP4_HUB_H
#define GGML_NVFP4_HUB_H

#include "ggml-nvfp4-base.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Hub --------------------------------------------------------------------------------------------------------------- */
/* Repositories of the Hugging Face hub, over HTTPS. The cache is that of huggingface_hub; both may use it at once. The
 * library reads no environment: programs pass HF_TOKEN, HF_ENDPOINT and the like. GNV_UNSUPPORTED: a build without libcurl. */
typedef struct gnv_hub_options {
    uint64_t struct_size;
    const char * endpoint;          /* NULL: "https://huggingface.co" */
    const char * token;             /* NULL or "": none. Goes to the endpoint's host alone, and into no message */
    const char * cache;             /* the folder that holds models--ORG--NAME */
    const char * ca_file;           /* certificates to trust, PEM; NULL: the system's */
    const char * proxy;             /* as in HTTPS_PROXY; NULL: none */
    const char * no_proxy;          /* as in NO_PROXY */
    int32_t offline;                /* use the cache alone */
    int32_t list_only;              /* log what would be downloaded, and give "" */
    int32_t connections;            /* files at a time, up to 64; 0: 8 */
    uint32_t first_wait_ms;         /* before the second try, doubled from try to try; 0: 500 */
    gnv_progress_callback progress; /* bytes of files; `tensors` are files. May be NULL */
    void * user;
} gnv_hub_options;
static inline void gnv_hub_options_init(gnv_hub_options * options) {
    memset(options, 0, sizeof *options);
    options->struct_size = sizeof *options;
}
/* The folder of a model, "ORG/NAME" or "ORG/NAME@REVISION": the complete one in the cache, else downloaded. Only what a run
 * needs is downloaded: safetensors, configs, tokenizer, card. Stopped or failed downloads go on where they ended. Every file
 * has the size and the hash that the hub lists. */
GNV_API gnv_status gnv_hub_fetch_model(gnv_engine_t * engine, const char * name, const gnv_hub_options * options,
                                       gnv_text_t ** folder);

/* A model whose weights stay on the hub, for a disk that has no room for them: gnv_plan_options.stream,
 * gnv_verify_options.stream. Small files and headers are downloaded here; a file of weights comes whole, shortly before it is
 * read, has the hash that the hub lists, and leaves the disk after its last use. A model that is complete in the cache is taken
 * from there. */
typedef struct gnv_hub_stream_t gnv_hub_stream_t;
/* `disk_bytes`: the most that weights take of the disk of the cache, and no less than the largest file; 0: the four largest files,
 * or half of what is free. The callback of `options` is also called by later calls that read the model, from any thread; to stop
 * there ends all reading, and later calls fail with GNV_CANCELLED. `options` are read during the call alone, but `user` must
 * live as long as the stream. GNV_INVALID_ARGUMENT with `offline`, unless the model is complete. */
GNV_API gnv_status gnv_hub_stream_open(gnv_engine_t * engine, const char * name, const gnv_hub_options * options,
                                       uint64_t disk_bytes, gnv_hub_stream_t ** out);
/* Its folder, with everything but the weights: for tokenizers and data sets. Lives as long as the stream. */
GNV_API const char * gnv_hub_stream_folder(const gnv_hub_stream_t * stream);
/* After all plans and reports that were made with it. */
GNV_API void gnv_hub_stream_destroy(gnv_hub_stream_t * stream);

/* A folder with the data files of a data set, "ORG/NAME[@REVISION][:CONFIG[:SPLIT]]", for gnv_dataset_options.sources. They are
 * chosen by the configurations in its README.md, else by names of folders and files; the log says which. Without SPLIT it is
 * "train". */
GNV_API gnv_status gnv_hub_fetch_dataset(gnv_engine_t * engine, const char * name, const gnv_hub_options * options,
                                         gnv_text_t ** folder);

typedef struct gnv_hub_upload_options {
    uint64_t struct_size;
    const char * message; /* of the commit; NULL: "Upload with ggml-nvfp4" */
    int32_t create;       /* make the repository if the hub lacks it */
    int32_t is_private;   /* with `create` */
} gnv_hub_upload_options;
static inline void gnv_hub_upload_options_init(gnv_hub_upload_options * options) {
    memset(options, 0, sizeof *options);
    options->struct_size = sizeof *options;
}
/* Sends a complete folder to the branch main of the model repository "ORG/NAME": large files first, then one commit with
 * everything; *url is its page. Files that the hub has already are not sent again, so a stopped upload goes on where it ended.
 * Hidden files stay behind, except .gitattributes. `options` needs a token that may write. `folder` NULL: sends nothing, and
 * only asks whether the token may write there, and whether the repository is there (or `create` is set): before a long run. */
GNV_API gnv_status gnv_hub_upload(gnv_engine_t * engine, const char * folder, const char * name,
                                  const gnv_hub_options * options, const gnv_hub_upload_options * upload,
                                  gnv_text_t ** url);

/* ---- Model card ------------------------------------------------------------------------------------------------------------ */
/* For README.md of a result: metadata for the hub, how it was made, commands to serve it, SHA-256 of its files. */
typedef struct gnv_card_options {
    uint64_t struct_size;
    const char * source;            /* a folder whose card gives licence, languages and tags; NULL: none of them */
    const char * base_model;        /* "org/name" of the source; NULL: from the folder, if that is in the hub's cache */
    const char * command;           /* that made the result; may be NULL */
    const char * repository;        /* "org/name" of the result; may be NULL */
    gnv_progress_callback progress; /* gnv_card_write only, without numbers: to stop */
    void * user;
} gnv_card_options;
static inline void gnv_card_options_init(gnv_card_options * options) {
    memset(options, 0, sizeof *options);
    options->struct_size = sizeof *options;
}

/* Writes README.md of a finished checkpoint, in place of one that is there, as gnv_quantize_options.card does. */
GNV_API gnv_status gnv_card_write(gnv_engine_t * engine, const char * folder, const gnv_card_options * options);
/* Puts the figures of a JSON document of gnv_report_text, with predictions or a canary, into such a README.md. */
GNV_API gnv_status gnv_card_measure(gnv_engine_t * engine, const char * folder, const char * verify_report);

#ifdef __cplusplus
}
#endif

#endif
