/* A library without its parts: the codec and the text model work, and every other function says that it is left out.
 * usage: edge FOLDER (the small checkpoint) */
#include <ggml-nvfp4.h>
#include <stdio.h>
#include <string.h>

/* Every function of the header is there. */
typedef void (*function)(void);
static const function functions[] = {
#define FUNCTION(name) (function) name,
#include <api_functions.inc> /* written by the build: FUNCTION(name) of each function of the header */
#undef FUNCTION
};

#define REQUIRE(condition)                                                                                             \
    if (!(condition)) {                                                                                                \
        fprintf(stderr, "line %d: %s\n%s\n", __LINE__, #condition, gnv_last_error(engine));                            \
        return 1;                                                                                                      \
    }

/* What NVFP4 holds comes back as it was: with a largest magnitude of 6 the numbers of E2M1 are exact. */
static int check_codec(gnv_engine_t * engine) {
    static const float numbers[] = {0, 0.5, 1, 1.5, 2, 3, 4, 6};
    float weights[2 * 32], values[2 * 32], amax = 0, scale = 0;
    uint8_t codes[32], scales[4];
    int i;
    for (i = 0; i < 64; i++) weights[i] = numbers[(i * 5 + i / 16) % 8] * (float)(i % 3 == 1 ? -1 : 1);
    REQUIRE(gnv_nvfp4_code_bytes(2, 32) == sizeof codes && gnv_nvfp4_scale_bytes(2, 32) == sizeof scales);
    REQUIRE(gnv_nvfp4_absolute_maximum(engine, GNV_DTYPE_F32, weights, 64, &amax) == GNV_OK && amax == 6);
    REQUIRE(gnv_nvfp4_global_scale(engine, GNV_DTYPE_F32, amax, &scale) == GNV_OK && scale == 448);
    REQUIRE(gnv_nvfp4_quantize_rows(engine, GNV_DTYPE_F32, weights, 2, 32, scale, codes, scales) == GNV_OK);
    REQUIRE(gnv_nvfp4_dequantize_rows(engine, codes, scales, 2, 32, scale, values) == GNV_OK);
    for (i = 0; i < 64; i++) REQUIRE(values[i] == weights[i]);
    return 0;
}

static int collect(void * user, const gnv_token * token) {
    char * const text = (char *)user;
    return strlen(text) + token->text_size < 256 ? (strcat(text, token->text), 0) : 1;
}

/* The first recorded text of the Transformers implementation (tests/data/golden/greedy.json). */
static int check_text(gnv_engine_t * engine, const char * folder) {
    static const char prompt[] = "<|im_start|>user\nWhat does the following option do?<|im_end|>\n"
                                 "<|im_start|>assistant\n",
                      expected[] = "A green circle at the bottom right.<|im_end|>";
    char text[256] = "";
    int32_t device = -1, ids[32];
    size_t count = 0;
    gnv_precision precision = GNV_PRECISION_BF16;
    gnv_model_options model_options;
    gnv_generate_options options;
    gnv_tokenizer_t * tokenizer = NULL;
    gnv_model_t * model = NULL;
    REQUIRE(gnv_device_find(engine, "cpu", NULL, &device, &precision) == GNV_OK);
    REQUIRE(device == 0 && precision == GNV_PRECISION_FP32);
    gnv_model_options_init(&model_options);
    model_options.device = device;
    model_options.precision = precision;
    REQUIRE(gnv_tokenizer_load(engine, folder, &tokenizer) == GNV_OK);
    REQUIRE(gnv_tokenizer_encode(tokenizer, prompt, strlen(prompt), 0, ids, 32, &count) == GNV_OK && count <= 32);
    REQUIRE(gnv_model_open(engine, folder, &model_options, &model) == GNV_OK);
    gnv_generate_options_init(&options);
    options.temperature = 0;
    options.max_tokens = 16;
    options.tokenizer = tokenizer;
    options.callback = collect;
    options.user = text;
    REQUIRE(gnv_model_generate(model, ids, count, &options, NULL) == GNV_OK);
    printf("%s%s\n", prompt, text);
    REQUIRE(strcmp(text, expected) == 0);
    gnv_model_close(model);
    gnv_tokenizer_destroy(tokenizer);
    return 0;
}

#define REQUIRE_LEFT_OUT(call, handle, option)                                                                         \
    REQUIRE((call) == GNV_UNSUPPORTED && (handle) == NULL && strstr(gnv_last_error(engine), option))

static int check_left_out(gnv_engine_t * engine, const char * folder) {
    gnv_dataset_t * dataset = (gnv_dataset_t *)engine;
    gnv_plan_t * plan = (gnv_plan_t *)engine;
    gnv_calibration_t * calibration = (gnv_calibration_t *)engine;
    gnv_report_t * report = (gnv_report_t *)engine;
    gnv_evaluation_t * evaluation = (gnv_evaluation_t *)engine;
    gnv_checkpoint_t * checkpoint = (gnv_checkpoint_t *)engine;
    gnv_text_t * text = (gnv_text_t *)engine;
    REQUIRE_LEFT_OUT(gnv_dataset_open(engine, NULL, NULL, &dataset), dataset, "GNV_WITH_DATASETS=ON");
    REQUIRE_LEFT_OUT(gnv_plan_create(engine, folder, NULL, &plan), plan, "GNV_WITH_QUANTIZE=ON");
    REQUIRE_LEFT_OUT(gnv_calibration_load(engine, &folder, 1, &calibration), calibration, "GNV_WITH_QUANTIZE=ON");
    REQUIRE_LEFT_OUT(gnv_verify(engine, folder, NULL, NULL, &report), report, "GNV_WITH_VERIFY=ON");
    REQUIRE_LEFT_OUT(gnv_evaluate(engine, folder, folder, NULL, &evaluation), evaluation, "GNV_WITH_VERIFY=ON");
    REQUIRE_LEFT_OUT(gnv_checkpoint_open(engine, folder, &checkpoint), checkpoint, "GNV_WITH_VERIFY=ON");
    REQUIRE(gnv_verify(NULL, folder, NULL, NULL, NULL) == GNV_INVALID_ARGUMENT);
    REQUIRE(gnv_plan_text(NULL, GNV_TEXT_JSON, &text) == GNV_INVALID_ARGUMENT && text == NULL);
    REQUIRE(gnv_quantize(NULL, folder, NULL, NULL) == GNV_INVALID_ARGUMENT);
    REQUIRE(gnv_dataset_size(NULL) == 0 && gnv_checkpoint_tensor_count(NULL) == 0);
    gnv_dataset_destroy(NULL);
    gnv_plan_destroy(NULL);
    gnv_checkpoint_close(NULL);
    return 0;
}

int main(int argc, char ** argv) {
    gnv_engine_t * engine = NULL;
    size_t i;
    int failed;
    for (i = 0; i < sizeof functions / sizeof *functions; i++)
        if (!functions[i]) return 2;
    if (argc != 2 || gnv_engine_create(NULL, &engine) != GNV_OK) return 2;
    failed = check_codec(engine) || check_text(engine, argv[1]) || check_left_out(engine, argv[1]);
    gnv_engine_destroy(engine);
    return failed;
}
