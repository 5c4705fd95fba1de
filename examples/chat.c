/* chat MODEL: a conversation. Each line of standard input is a turn; the answer is printed while it is written. */
#include <ggml-nvfp4.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The conversation as JSON, for the chat template; and room for an answer. */
static char conversation[1 << 20] = "{\"add_generation_prompt\":true,\"messages\":[";
static char answer[1 << 18];
static size_t answer_size;

/* 0 if there is no room left. */
static int append(const char * text) {
    const size_t used = strlen(conversation);
    if (strlen(text) >= sizeof conversation - used) return 0;
    memcpy(conversation + used, text, strlen(text) + 1);
    return 1;
}

/* Adds a message, its text escaped as JSON wants it. */
static int add_message(const char * role, const char * text) {
    int fits = append(strstr(conversation, "\"role\"") ? ",{\"role\":\"" : "{\"role\":\"") && append(role) &&
               append("\",\"content\":\"");
    for (; *text && fits; text++) {
        char escaped[8] = {*text, '\0'};
        const unsigned char byte = (unsigned char)*text;
        if (byte < 0x20 || byte == '"' || byte == '\\') snprintf(escaped, sizeof escaped, "\\u%04x", byte);
        fits = append(escaped);
    }
    return fits && append("\"}");
}

/* The ids of the whole conversation and of the beginning of an answer; free() them. */
static gnv_status encode(gnv_tokenizer_t * tokenizer, int32_t ** ids, size_t * count) {
    const size_t size = strlen(conversation);
    gnv_text_t * prompt = NULL;
    gnv_status status;
    if (size + 3 > sizeof conversation) return GNV_OUT_OF_MEMORY;
    memcpy(conversation + size, "]}", 2); /* for this call: the next message takes the place */
    status = gnv_tokenizer_render_chat(tokenizer, conversation, size + 2, NULL, 0, &prompt);
    memset(conversation + size, 0, 2);
    if (status == GNV_OK) {
        const size_t capacity = gnv_text_size(prompt) + 1; /* a token has at least a byte */
        *ids = malloc(capacity * sizeof **ids);
        if (!*ids) status = GNV_OUT_OF_MEMORY;
        if (*ids)
            status =
                gnv_tokenizer_encode(tokenizer, gnv_text_data(prompt), gnv_text_size(prompt), 0, *ids, capacity, count);
    }
    gnv_text_destroy(prompt);
    return status;
}

static int show_token(void * user, const gnv_token * token) {
    (void)user;
    fwrite(token->text, 1, token->answer_size, stdout);
    fflush(stdout);
    if (token->answer_size >= sizeof answer - answer_size) return 1;
    memcpy(answer + answer_size, token->text, token->answer_size);
    answer[answer_size += token->answer_size] = '\0';
    return ferror(stdout);
}

static gnv_status talk(gnv_model_t * model, gnv_tokenizer_t * tokenizer) {
    char line[1 << 14];
    gnv_generate_options options;
    gnv_status status = GNV_OK;
    gnv_generate_options_init(&options);
    options.max_tokens = 256;
    options.tokenizer = tokenizer;
    options.callback = show_token;
    while (status == GNV_OK && fgets(line, sizeof line, stdin)) {
        int32_t * ids = NULL;
        size_t count = 0;
        line[strcspn(line, "\n")] = '\0';
        if (!add_message("user", line)) return GNV_OUT_OF_MEMORY;
        answer[answer_size = 0] = '\0';
        status = encode(tokenizer, &ids, &count);
        if (status == GNV_OK) status = gnv_model_reset(model);
        if (status == GNV_OK) status = gnv_model_generate(model, ids, count, &options, NULL);
        free(ids);
        putchar('\n');
        if (status == GNV_OK && !add_message("assistant", answer)) return GNV_OUT_OF_MEMORY;
    }
    return status;
}

int main(int argc, char ** argv) {
    gnv_engine_t * engine = NULL;
    gnv_tokenizer_t * tokenizer = NULL;
    gnv_model_t * model = NULL;
    gnv_model_options options;
    gnv_status status;
    if (argc != 2) return fprintf(stderr, "usage: %s MODEL\n", argv[0]), 2;
    status = gnv_engine_create(NULL, &engine);
    gnv_model_options_init(&options);
    if (status == GNV_OK)
        status = gnv_device_find(engine, "auto", NULL, &options.device, &options.precision); /* a GPU if there is one */
    if (status == GNV_OK) status = gnv_tokenizer_load(engine, argv[1], &tokenizer);
    if (status == GNV_OK) status = gnv_model_open(engine, argv[1], &options, &model);
    if (status == GNV_OK) status = talk(model, tokenizer);
    if (status != GNV_OK)
        fprintf(stderr, "error: %s: %s\n", gnv_status_string(status), engine ? gnv_last_error(engine) : "");
    gnv_model_close(model);
    gnv_tokenizer_destroy(tokenizer);
    gnv_engine_destroy(engine);
    return status == GNV_OK ? 0 : 2;
}
