/* A chat of two users with one model in memory: both texts go on together, a token at a time each. The system's turn runs once,
 * and both texts begin as copies of it.
 *
 *     example_sessions MODEL_FOLDER "What is a shard?" "What is a recipe?"
 */
#include <ggml-nvfp4.h>
#include <stdio.h>
#include <stdlib.h>

enum { users = 2, most_tokens = 48, most_ids = 2048 };

struct user {
    gnv_session_t * session; /* NULL: the answer has ended */
    gnv_shown_text_t * shown;
    char answer[8192];
    size_t size, tokens;
};

static gnv_engine_t * engine;

/* Ends the program with the message of the call that failed. */
static void check(gnv_status status) {
    if (status == GNV_OK) return;
    fprintf(stderr, "%s: %s\n", gnv_status_string(status), gnv_last_error(engine));
    exit(1);
}

static size_t encode(gnv_tokenizer_t * tokenizer, const char * text, int32_t * ids) {
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

/* Takes the next token of an answer. 0: it has ended. */
static int go_on(struct user * user) {
    gnv_shown_token token = {.struct_size = sizeof token};
    int32_t id = -1;
    check(gnv_session_likeliest(user->session, &id, NULL));
    check(gnv_shown_text_push(user->shown, id, 0, &token));
    user->tokens = token.tokens;
    if (token.answer_size <= sizeof user->answer - user->size) {
        memcpy(user->answer + user->size, token.text, token.answer_size);
        user->size += token.answer_size;
    }
    if (!token.is_last) check(gnv_session_feed(user->session, &id, 1, GNV_WANT_LIKELIEST));
    return !token.is_last;
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

    static int32_t ids[most_ids];
    static struct user user[users];
    gnv_session_t * system = NULL;
    check(gnv_session_open(model, &system));
    size_t length = encode(tokenizer, "<|im_start|>system\nYou answer in one sentence.<|im_end|>\n", ids);
    check(gnv_session_feed(system, ids, length, GNV_WANT_NOTHING));
    run(model);

    char question[4096];
    gnv_generate_options limits; /* where an answer ends, besides at the model's own stop ids */
    gnv_generate_options_init(&limits);
    limits.max_tokens = most_tokens;
    for (int u = 0; u < users; u++) {
        check(gnv_session_copy(system, &user[u].session));
        check(gnv_shown_text_create(model, &limits, &user[u].shown));
        snprintf(question, sizeof question, "<|im_start|>user\n%s<|im_end|>\n<|im_start|>assistant\n",
                 arguments[2 + u]);
        length = encode(tokenizer, question, ids);
        check(gnv_session_feed(user[u].session, ids, length, GNV_WANT_LIKELIEST));
    }
    for (int open = users; open > 0;) {
        run(model); /* one pass for all users */
        for (int u = 0; u < users; u++) {
            if (!user[u].session || go_on(&user[u])) continue;
            gnv_session_close(user[u].session);
            user[u].session = NULL;
            open--;
        }
    }
    for (int u = 0; u < users; u++) {
        printf("%s\n  %zu tokens: %.*s\n", arguments[2 + u], user[u].tokens, (int)user[u].size, user[u].answer);
        gnv_shown_text_destroy(user[u].shown);
    }
    gnv_session_close(system);
    gnv_tokenizer_destroy(tokenizer);
    gnv_model_close(model);
    gnv_engine_destroy(engine);
    return 0;
}
