/* A chat of two users with one model in memory: both texts go on together, a token at a time each. The system's turn runs once,
 * and both texts begin as copies of it.
 *
 *     example_sessions MODEL_FOLDER "What is a shard?" "What is a recipe?"
 */
#include <ggml-nvfp4.h>
#include <stdio.h>
#include <stdlib.h>

enum { users = 2, most_tokens = 48, most_ids = 2048 };

static gnv_engine_t * engine;

/* Ends the program with the message of the call that failed. */
static void check(gnv_status status) {
    if (status == GNV_OK) return;
    fprintf(stderr, "%s: %s\n", gnv_status_string(status), gnv_last_error(engine));
    exit(1);
}

static size_t encode(const gnv_tokenizer_t * tokenizer, const char * text, int32_t * ids) {
    size_t count = 0;
    check(gnv_tokenizer_encode(tokenizer, text, strlen(text), 0, ids, most_ids, &count));
    return count;
}

/* Steps until no session waits. */
static void run(gnv_model_t * model) {
    gnv_step_result step = {.struct_size = sizeof step};
    do check(gnv_model_step(model, NULL, 0, NULL, &step));
    while (step.waiting > 0);
}

static int is_stop(const gnv_model_info * info, int32_t id) {
    for (uint64_t i = 0; i < info->stop_count; i++)
        if (info->stop_ids[i] == id) return 1;
    return 0;
}

int main(int count, char ** arguments) {
    if (count != 2 + users) {
        fprintf(stderr, "usage: %s MODEL_FOLDER QUESTION QUESTION\n", arguments[0]);
        return 2;
    }
    if (gnv_engine_create(NULL, &engine) != GNV_OK) return 1;
    gnv_model_options options;
    gnv_model_options_init(&options);
    options.capacity = most_ids + most_tokens;
    options.sessions = users + 1;
    gnv_model_t * model = NULL;
    check(gnv_model_open(engine, arguments[1], &options, &model));
    gnv_tokenizer_t * tokenizer = NULL;
    check(gnv_tokenizer_load(engine, arguments[1], &tokenizer));
    gnv_model_info info = {.struct_size = sizeof info};
    check(gnv_model_get_info(model, &info));

    static int32_t ids[most_ids];
    gnv_session_t *system = NULL, *session[users] = {NULL};
    check(gnv_session_open(model, &system));
    size_t length = encode(tokenizer, "<|im_start|>system\nYou answer in one sentence.<|im_end|>\n", ids);
    check(gnv_session_feed(system, ids, length, GNV_WANT_NOTHING));
    run(model);

    char question[4096];
    for (int u = 0; u < users; u++) {
        check(gnv_session_copy(system, &session[u]));
        snprintf(question, sizeof question, "<|im_start|>user\n%s<|im_end|>\n<|im_start|>assistant\n",
                 arguments[2 + u]);
        length = encode(tokenizer, question, ids);
        check(gnv_session_feed(session[u], ids, length, GNV_WANT_LIKELIEST));
    }
    int32_t answers[users][most_tokens];
    size_t answered[users] = {0};
    for (int open = users; open > 0;) {
        run(model); /* one pass for all users */
        for (int u = 0; u < users; u++) {
            if (!session[u]) continue;
            int32_t id = -1;
            check(gnv_session_likeliest(session[u], &id, NULL));
            answers[u][answered[u]++] = id;
            if (is_stop(&info, id) || answered[u] == most_tokens) {
                gnv_session_close(session[u]);
                session[u] = NULL;
                open--;
            } else {
                check(gnv_session_feed(session[u], &id, 1, GNV_WANT_LIKELIEST));
            }
        }
    }
    for (int u = 0; u < users; u++) {
        gnv_text_t * text = NULL;
        check(gnv_tokenizer_decode(tokenizer, answers[u], answered[u], 0, &text));
        printf("%s\n  %zu tokens: %s\n", arguments[2 + u], answered[u], gnv_text_data(text));
        gnv_text_destroy(text);
    }
    gnv_session_close(system);
    gnv_tokenizer_destroy(tokenizer);
    gnv_model_close(model);
    gnv_engine_destroy(engine);
    return 0;
}
