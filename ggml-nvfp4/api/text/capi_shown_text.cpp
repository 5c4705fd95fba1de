#include "api/arguments.h"
#include "api/text/session_handle.h"

using namespace gnv;

struct gnv_shown_text_t : api::Owned {
    ShownText text;
    std::string piece; // of the last token
};

gnv_status gnv_shown_text_create(gnv_model_t * model, const gnv_generate_options * given, gnv_shown_text_t ** out) {
    if (out) *out = nullptr;
    return api::run(api::engine_of(model), [&]() -> Status {
        GNV_TRY(api::check_pointers({out}, "gnv_shown_text_create"));
        gnv_generate_options options;
        gnv_generate_options_init(&options);
        GNV_TRY(api::take_options(given, options, "gnv_generate_options"));
        GNV_ASSIGN(AnswerLimits limits, api::answer_limits(*model, options));
        GNV_ASSIGN(const Tokenizer * const tokenizer, api::choose_tokenizer(*model, options));
        *out = new gnv_shown_text_t{{model->engine}, ShownText(*tokenizer, std::move(limits)), {}};
        return {};
    });
}

void gnv_shown_text_destroy(gnv_shown_text_t * text) { api::destroy(text); }

gnv_status gnv_shown_text_push(gnv_shown_text_t * text, int32_t id, int32_t is_full, gnv_shown_token * out) {
    return api::call(api::engine_of(text), [&]() -> Status {
        GNV_TRY(api::check_struct(out, "gnv_shown_token"));
        if (text->text.has_ended()) return Status(Code::invalid_argument, "gnv_shown_text_push: the answer has ended");
        GNV_ASSIGN(GeneratedToken token, text->text.push(id, is_full != 0));
        text->piece = std::move(token.text);
        gnv_shown_token shown = {};
        shown.text = text->piece.c_str();
        shown.text_size = text->piece.size();
        shown.answer_size = token.answer;
        shown.tokens = uint64_t(text->text.tokens());
        shown.is_last = token.end.has_value();
        if (token.end) shown.stop = api::stop_of(*token.end);
        shown.stop_text = token.stop_text;
        return api::give_struct(shown, out, "gnv_shown_token");
    });
}
