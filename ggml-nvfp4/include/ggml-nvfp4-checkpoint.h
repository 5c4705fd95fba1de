/* ggml-nvfp4: checkpoints, tensor files and the NVFP4 codec, without a model. Part of ggml-nvfp4.h, which states the
 * rules of all functions. */
#ifndef GGML_NVFP4_CHECKPOINT_H
#define GGML_NVFP4_CHECKPOINT_H

#include "ggml-nvfp4-base.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Checkpoint ------------------------------------------------------------------------------------------------------ */
/* Any folder of safetensors files: a model in its source precision, a quantized one, or an unknown one. Opening reads
 * headers and config.json and checks the files' structure (sizes, offsets, index), no tensor data. Strings and shapes
 * from the functions below are valid until the checkpoint is closed.
 *
 * A quantized module is an NVFP4 weight [rows, columns] whose codes, block scales and global scale are tensors of the
 * checkpoint, in the naming of llm-compressor or of ModelOpt. Its name is that of the Linear, without ".weight". A
 * `name` of a function may be a tensor's or a quantized module's; a tensor wins. */
typedef struct gnv_checkpoint_t gnv_checkpoint_t;

/* `folder` may also be one file NAME.safetensors, of gnv_dump_create, say: then that file alone, without roles.
 * GNV_NOT_FOUND: no such folder, or no safetensors file in it. GNV_FORMAT names the file and the byte. */
GNV_API gnv_status gnv_checkpoint_open(gnv_engine_t * engine, const char * folder, gnv_checkpoint_t ** out);
GNV_API void gnv_checkpoint_close(gnv_checkpoint_t * checkpoint);
GNV_API uint64_t gnv_checkpoint_tensor_count(const gnv_checkpoint_t * checkpoint); /* 0 for NULL */
GNV_API uint64_t gnv_checkpoint_module_count(const gnv_checkpoint_t * checkpoint); /* quantized ones; 0 for NULL */

typedef struct gnv_tensor_info {
    uint64_t struct_size;
    const char * name;
    const char * dtype; /* as safetensors spells it: "BF16", "F8_E4M3", "U8" */
    const char * role;  /* "router", "draft head: attention q"; "extra": not in the model; "": no known config.json */
    uint64_t dimensions;
    const int64_t * shape; /* `dimensions` extents, C order */
    const char * shard;    /* the file's name inside the folder */
    uint64_t offset;       /* bytes from the start of that file */
    uint64_t bytes;
    const char * module; /* its quantized module, or "" */
    const char * part;   /* of that module: "codes", "block scales", "global scale", "input scale", or "" */
} gnv_tensor_info;
/* `tensor` counts from 0, by file, then by offset. */
GNV_API gnv_status gnv_checkpoint_tensor_info(gnv_checkpoint_t * checkpoint, uint64_t tensor, gnv_tensor_info * info);
GNV_API gnv_status gnv_checkpoint_find_tensor(gnv_checkpoint_t * checkpoint, const char * name, uint64_t * tensor);

typedef struct gnv_module_info {
    uint64_t struct_size;
    const char * name;
    const char * role;   /* as gnv_tensor_info.role */
    const char * scheme; /* "nvfp4": with an input scale; "nvfp4a16": without */
    const char * naming; /* "compressed-tensors" (llm-compressor) or "modelopt" */
    int64_t rows, columns;
    uint64_t codes, block_scales, global_scale; /* positions of its tensors */
    uint64_t input_scale;                       /* the same; UINT64_MAX: none */
} gnv_module_info;
/* `module` counts from 0, in the order of their codes in the files. Finding: GNV_NOT_FOUND when nothing has that name. */
GNV_API gnv_status gnv_checkpoint_module_info(gnv_checkpoint_t * checkpoint, uint64_t module, gnv_module_info * info);
GNV_API gnv_status gnv_checkpoint_find_module(gnv_checkpoint_t * checkpoint, const char * name, uint64_t * module);

/* Copies `size` bytes at `offset` of a tensor's data, as stored. GNV_INVALID_ARGUMENT: the tensor has fewer. */
GNV_API gnv_status gnv_checkpoint_read(gnv_checkpoint_t * checkpoint, uint64_t tensor, uint64_t offset, void * data,
                                       uint64_t size);
/* Elements [first, first + count) in C order as numbers, exact except for 64-bit integers beyond 2^53; for a quantized
 * module the dequantized weight. GNV_UNSUPPORTED for 6-bit floats. */
GNV_API gnv_status gnv_checkpoint_values(gnv_checkpoint_t * checkpoint, const char * name, uint64_t first,
                                         uint64_t count, double * values);

typedef struct gnv_statistics {
    uint64_t struct_size;
    uint64_t elements, zeros, nans, infinities;
    uint64_t first_not_finite;           /* position in C order, UINT64_MAX if all are finite */
    double minimum, maximum, largest;    /* of the finite elements; largest: of the magnitudes */
    double mean, deviation;              /* of the finite elements; deviation: root of the mean squared distance */
    int32_t has_codes, has_block_scales; /* of the fields below: a quantized module has both, its tensors one or none */
    uint64_t codes[16];                  /* how often each E2M1 code occurs */
    double block_scale_minimum, block_scale_maximum; /* of those that are no NaN */
    uint64_t block_scale_zeros, block_scale_subnormals, block_scale_largest, block_scale_nans;
    uint64_t block_scale_negatives;   /* -0 included; block_scale_largest above: of magnitude 448 */
    double global_scale, input_scale; /* of a module, as stored; 0: none */
} gnv_statistics;
/* Reads all of a tensor or quantized module (then the values are dequantized) in bounded memory. Sums do not depend on
 * the number of threads. `statistics` and `text` (a table, or JSON of schema ggml-nvfp4.inspect.1) may be NULL.
 * GNV_CHANGED: a file was changed since the checkpoint was opened. */
GNV_API gnv_status gnv_checkpoint_measure(gnv_checkpoint_t * checkpoint, const char * name, gnv_statistics * statistics,
                                          gnv_text_format format, gnv_text_t ** text);

typedef struct gnv_contents_options {
    uint64_t struct_size;
    const char * filter;  /* Python's re.match on names of tensors and modules; NULL: all */
    int32_t list_tensors; /* plain text: a line per tensor after the summary by role (JSON has them always) */
} gnv_contents_options;
static inline void gnv_contents_options_init(gnv_contents_options * options) {
    memset(options, 0, sizeof *options);
    options->struct_size = sizeof *options;
}
/* What the checkpoint holds: a summary by role for people, every tensor for programs (schema ggml-nvfp4.inspect.1). */
GNV_API gnv_status gnv_checkpoint_text(gnv_checkpoint_t * checkpoint, const gnv_contents_options * options,
                                       gnv_text_format format, gnv_text_t ** out);

/* ---- Comparison ------------------------------------------------------------------------------------------------------ */
/* Differences of two checkpoints, `here` and `there`. Tensors are matched by name. A quantized module is matched with
 * the same weight in any form on the other side: quantized, a tensor, or a slice of fused experts. */
typedef struct gnv_comparison_t gnv_comparison_t;

typedef struct gnv_compare_options {
    uint64_t struct_size;
    const char * filter; /* as gnv_contents_options.filter */
    gnv_progress_callback progress;
    void * user;
} gnv_compare_options;
static inline void gnv_compare_options_init(gnv_compare_options * options) {
    memset(options, 0, sizeof *options);
    options->struct_size = sizeof *options;
}
/* Reads every pair that meets, in bounded memory. */
GNV_API gnv_status gnv_checkpoint_compare(gnv_checkpoint_t * here, gnv_checkpoint_t * there,
                                          const gnv_compare_options * options, gnv_comparison_t ** out);
GNV_API void gnv_comparison_destroy(gnv_comparison_t * comparison);

typedef struct gnv_comparison_info {
    uint64_t struct_size;
    uint64_t equal;     /* same dtype, shape and bytes */
    uint64_t values;    /* same dtype and shape, other bytes */
    uint64_t form;      /* another dtype or shape */
    uint64_t quantized; /* same shape, quantized on one side */
    uint64_t only_here, only_there;
    double relative_squared_error;       /* of those: sum of squared errors / sum of squares of the other side; or 0 */
    double worst_relative_squared_error; /* of one weight */
} gnv_comparison_info;
GNV_API gnv_status gnv_comparison_get_info(const gnv_comparison_t * comparison, gnv_comparison_info * info);
/* Tables for people, or every difference for programs (schema ggml-nvfp4.inspect.1). */
GNV_API gnv_status gnv_comparison_text(const gnv_comparison_t * comparison, gnv_text_format format, gnv_text_t ** out);

/* ---- NVFP4 codec ------------------------------------------------------------------------------------------------------ */
/* The arithmetic of the format on arrays in memory; no files. A weight [rows, columns], row-major, becomes one E2M1 code
 * (4 bits) per element, one E4M3 byte per block of 16 consecutive elements of a row, and one divisor for all of it:
 *
 *     weight[n][k]  ~  value(code[n][k]) * e4m3(scales[n][k / 16]) / global_scale
 *
 * codes: [rows, columns / 2], byte j of a row = code[2j] | code[2j + 1] << 4. scales: [rows, columns / 16]. The bytes are
 * those of llm-compressor's weight_packed, weight_scale and weight_global_scale. Columns must be divisible by 16; pointers
 * need no alignment and may be NULL only for zero elements. After a failure the outputs are undefined. */

/* Of the source weight, which decides the arithmetic: a BF16 weight is quantized with BF16 roundings. */
typedef enum gnv_dtype GNV_INT { GNV_DTYPE_BF16 = 0, GNV_DTYPE_F16 = 1, GNV_DTYPE_F32 = 2 } gnv_dtype;
/* Bytes of codes and scales; 0 if the columns are not divisible by 16 or a number is not valid. */
GNV_API uint64_t gnv_nvfp4_code_bytes(int64_t rows, int64_t columns);
GNV_API uint64_t gnv_nvfp4_scale_bytes(int64_t rows, int64_t columns);

/* The largest magnitude of `count` elements, 0 for none. GNV_BAD_VALUE names the first NaN or Inf. */
GNV_API gnv_status gnv_nvfp4_absolute_maximum(gnv_engine_t * engine, gnv_dtype dtype, const void * weights,
                                              int64_t count, float * amax);
/* The divisor for a weight, or for weights that share one (query, key and value; gate and up), from the largest
 * magnitude of all: about 2688 / amax. 1 if that is not finite, as for a weight of zeros. */
GNV_API gnv_status gnv_nvfp4_global_scale(gnv_engine_t * engine, gnv_dtype dtype, float amax, float * global_scale);
/* GNV_BAD_VALUE names row and column of the first NaN or Inf. `global_scale` must be finite and above zero. */
GNV_API gnv_status gnv_nvfp4_quantize_rows(gnv_engine_t * engine, gnv_dtype dtype, const void * weights, int64_t rows,
                                           int64_t columns, float global_scale, uint8_t * codes, uint8_t * scales);
/* Writes rows x columns floats. GNV_BAD_VALUE names row and block of the first scale byte that means NaN. */
GNV_API gnv_status gnv_nvfp4_dequantize_rows(gnv_engine_t * engine, const uint8_t * codes, const uint8_t * scales,
                                             int64_t rows, int64_t columns, float global_scale, float * values);

/* ---- Tensor files ---------------------------------------------------------------------------------------------------- */
/* A new safetensors file of tensors that are made piece by piece, such as logits and activations: the shapes come
 * first, then the data, which are not held in memory. It is called PATH.partial until it is complete and on disk. */
typedef struct gnv_dump_t gnv_dump_t;

typedef struct gnv_dump_tensor {
    const char * name;
    const char * dtype;    /* as safetensors spells it: "F32", "I32" */
    uint64_t dimensions;   /* 64 at most */
    const int64_t * shape; /* C order */
} gnv_dump_tensor;

/* GNV_ALREADY_EXISTS: `path` exists and is not replaced. GNV_NO_SPACE: the disk cannot hold the file. */
GNV_API gnv_status gnv_dump_create(gnv_engine_t * engine, const char * path, const gnv_dump_tensor * tensors,
                                   size_t count, gnv_dump_t ** out);
/* The next bytes of tensor `tensor` (counted from 0), in C order; the tensors may take turns. */
GNV_API gnv_status gnv_dump_append(gnv_dump_t * dump, uint64_t tensor, const void * data, uint64_t bytes);
/* Gives the file its name. GNV_INVALID_ARGUMENT names the first tensor that lacks bytes. */
GNV_API gnv_status gnv_dump_finish(gnv_dump_t * dump);
/* Removes an unfinished file. */
GNV_API void gnv_dump_destroy(gnv_dump_t * dump);

#ifdef __cplusplus
}
#endif

#endif
