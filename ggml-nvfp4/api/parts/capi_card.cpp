#include "api/arguments.h"
#include "api/parts/card_options.h"
#include "api/progress.h"

using namespace gnv;

Status api::take_card_options(const gnv_card_options * given, CardOptions & card) {
    gnv_card_options options;
    gnv_card_options_init(&options);
    GNV_TRY(api::take_options(given, options, "gnv_card_options"));
    card.source = api::text_or_empty(options.source);
    card.base_model = api::text_or_empty(options.base_model);
    card.command = api::text_or_empty(options.command);
    card.repository = api::text_or_empty(options.repository);
    return {};
}

gnv_status gnv_card_write(gnv_engine_t * engine, const char * folder, const gnv_card_options * given) {
    return api::run(engine, [&]() -> Status {
        GNV_TRY(api::check_pointers({folder}, "gnv_card_write"));
        gnv_card_options options;
        gnv_card_options_init(&options);
        GNV_TRY(api::take_options(given, options, "gnv_card_options"));
        CardOptions card;
        GNV_TRY(api::take_card_options(given, card));
        api::Progress progress(options.progress, options.user);
        card.stop = [&progress] { return !progress.goes_on(); };
        return write_model_card(folder, card, *engine->threads);
    });
}

gnv_status gnv_card_measure(gnv_engine_t * engine, const char * folder, const char * verify_report) {
    return api::run(engine, [&]() -> Status {
        GNV_TRY(api::check_pointers({folder, verify_report}, "gnv_card_measure"));
        return add_measurements(folder, verify_report);
    });
}
