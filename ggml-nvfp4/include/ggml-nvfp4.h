/* ggml-nvfp4: BF16 checkpoints to NVFP4, verified and run. This header includes every part of the interface; a program may
 * include the parts that it uses instead.
 *
 *   ggml-nvfp4-base.h        status, engine, devices, progress
 *   ggml-nvfp4-data.h        tokenizer, chat template, calibration data
 *   ggml-nvfp4-quantize.h    plan, calibrate, quantize, estimate
 *   ggml-nvfp4-verify.h      checks of a result, and its predictions beside the source's
 *   ggml-nvfp4-text.h        models that compute: logits, text, pictures
 *   ggml-nvfp4-session.h     many texts with one set of weights
 *   ggml-nvfp4-checkpoint.h  tensors, differences, tensor files, the codec
 *   ggml-nvfp4-hub.h         download, upload, model card
 *
 * Rules of all functions
 *   - A call that can fail returns a gnv_status. GNV_OK is 0; gnv_last_error(engine) is the message of a failure. After a
 *     failure every output handle is NULL.
 *   - The library never prints, never exits and never throws at its caller. Only a bug of its own ends the process.
 *   - Handles are opaque. Destroy handles before the engine that they are made from, and a comparison before its
 *     checkpoints. Destroying NULL does nothing. There is no global state: two engines are independent of each other,
 *     and all handles of a call must be of one engine.
 *   - An engine runs one call at a time. While one runs, from a callback or another thread, these functions of the same
 *     engine give GNV_INVALID_ARGUMENT and change nothing: gnv_device_*, gnv_plan_create, gnv_plan_add_calibration,
 *     gnv_calibration_load, gnv_quantize, gnv_verify*, gnv_evaluate*, gnv_checkpoint_measure, gnv_checkpoint_compare,
 *     gnv_nvfp4_* with an engine, gnv_dataset_open, gnv_model_open, _reset, _forward, _generate, _picture_positions,
 *     gnv_picture_open, _decode and _create, gnv_session_* but _close, gnv_model_step, gnv_model_get_sessions,
 *     gnv_shown_text_create, gnv_tokenizer_set_progress, and gnv_tokenizer_encode with a callback. All others
 *     (infos, texts, dumps) wait for each other. A handle destroyed meanwhile lives until the running call returns.
 *   - Structures of options start with struct_size: call gnv_<name>_init(), which is compiled into your program and knows
 *     the size that your program knows, then change what you need. NULL options are the defaults. Structures that receive
 *     results: set struct_size before the call. Other sizes than those of a version are refused. Fields are only added at
 *     the end, so a program keeps working with a newer library.
 *   - Numbers that an enumeration or a sum of flags does not have are GNV_INVALID_ARGUMENT, as are lists of more than 10
 *     million entries and arrays of more than 2^47 bytes. Of int32_t options that say yes or no, 0 is no, others are yes.
 *   - Pointers passed in need to live only for the call, callbacks and their `user` until the call that they were given to
 *     returns (log: as long as the engine; gnv_tokenizer_set_progress: until the next one is set; gnv_session_pick: the series).
 *   - Strings are UTF-8, sizes are in bytes unless their name says otherwise, shapes are in C order.
 *   - A library may be built without some parts (README.md). Their functions exist: those that make a handle return
 *     GNV_UNSUPPORTED and name the part, the others treat NULL as always.
 */
#ifndef GGML_NVFP4_H
#define GGML_NVFP4_H

#include "ggml-nvfp4-base.h"
#include "ggml-nvfp4-checkpoint.h"
#include "ggml-nvfp4-data.h"
#include "ggml-nvfp4-hub.h"
#include "ggml-nvfp4-quantize.h"
#include "ggml-nvfp4-session.h"
#include "ggml-nvfp4-text.h"
#include "ggml-nvfp4-verify.h"

#endif
