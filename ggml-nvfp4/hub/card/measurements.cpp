// The measured part of a card: figures of a report of verify.
#include "hub/card/json_members.h"
#include "hub/card/model_card.h"

namespace gnv {

static std::string interval(const JsonValue & at, const char * key, double factor, int digits) {
    const double mean = number_at(at, {key, "mean"}), error = 1.96 * number_at(at, {key, "error"});
    return concat(fixed_text(factor * mean, digits), " (", fixed_text(factor * (mean - error), digits), " to ",
                  fixed_text(factor * (mean + error), digits), ")");
}

// "" if the report has no predictions.
static std::string predictions_text(const JsonValue & root) {
    JsonValue lines;
    if (!find_at(root, {"output", "lines"}, lines) || !lines.is_object()) return "";
    std::string out =
        concat("Predictions beside those of the source, on ", count_text(count_at(root, {"output", "positions"})),
               " positions of ", count_text(count_at(root, {"output", "windows"})), " texts (SHA-256 ",
               text_at(root, {"output", "data_sha256"}), "), in ", text_at(root, {"output", "precision"}), " on ",
               text_at(root, {"output", "device"}),
               ". KL is KL(source, this) in nats; intervals hold 95 %.\n\n"
               "| computed | KL, mean | KL, 99 % | same top token | perplexity / source's |\n|---|---|---|---|---|\n");
    const std::pair<const char *, const char *> rows[] = {
        {"w4a4", "W4A4, as Blackwell"}, {"w4a16", "W4A16, weights alone"}, {"activations", "inputs alone"}};
    for (const auto & [key, name] : rows) {
        JsonValue all;
        if (!find_at(lines, {key, "all"}, all)) continue;
        out += concat("| ", name, " | ", interval(all, "kl", 1, 4), " | ",
                      fixed_text(number_at(all, {"kl_percentiles", "99"}), 3), " | ", interval(all, "same_top", 100, 2),
                      " % | ", interval(all, "perplexity_ratio", 1, 4), " |\n");
    }
    return out + "\n";
}

// "" if the report has no canary.
static std::string canary_text(const JsonValue & root) {
    JsonValue canary, lines, gates;
    if (!find_at(root, {"canary"}, canary) || !find_at(canary, {"lines"}, lines) || !lines.is_object()) return "";
    std::string out =
        concat("Greedy answers to ", count_text(count_at(canary, {"prompts"})), " prompts (SHA-256 ",
               text_at(canary, {"prompts_sha256"}), "), of at most ", count_text(count_at(canary, {"max_tokens"})),
               " tokens", text_at(canary, {"thinking"}) == "true" ? ", " : ", without thinking, ", "in ",
               text_at(canary, {"precision"}), " on ", text_at(canary, {"device"}),
               ".\n\n| answers of | mean tokens | / source's | capped | repeating |\n|---|---|---|---|---|\n");
    const std::pair<const char *, const char *> rows[] = {{"source", "source"}, {"w4a4", "W4A4"}, {"w4a16", "W4A16"}};
    for (const auto & [key, name] : rows) {
        JsonValue line, growth;
        if (!find_at(lines, {key}, line)) continue;
        const auto percent = [&](const char * share) {
            return concat(fixed_text(100 * number_at(line, {share}), 1), " %");
        };
        out += concat("| ", name, " | ", fixed_text(number_at(line, {"mean_tokens"}), 1), " | ",
                      find_at(line, {"growth"}, growth) ? fixed_text(number_at(line, {"growth"}), 3) : "", " | ",
                      percent("capped"), " | ", percent("repeating"), " |\n");
    }
    if (find_at(canary, {"gates"}, gates) && gates.is_array())
        (void)gates
            .for_each_element([&](size_t, const JsonValue & gate) -> Status {
                const bool flagged = text_at(gate, {"flagged"}) == "true",
                           failed = text_at(gate, {"passed"}) == "false";
                if (flagged || failed)
                    out += concat("\n", failed ? "Failed: " : "Suspicious: ", text_at(gate, {"text"}), ".\n");
                return {};
            })
            .ok();
    return out + "\n";
}

Result<std::string> measurements_text(const std::string & verify_report) {
    GNV_ASSIGN(const JsonDocument document,
               JsonDocument::parse(verify_report, "the report of verify", JsonKeys::last_wins));
    const std::string figures = predictions_text(document.root()) + canary_text(document.root());
    if (figures.empty())
        return Status(Code::invalid_argument,
                      "the report of verify has no predictions: give --source and --data, or --canary");
    const uint64_t errors = count_at(document.root(), {"errors"});
    return figures + (errors == 0 ? "The checks of `verify` found no error.\n"
                                  : concat("The checks of `verify` found ", count_text(errors), " errors.\n"));
}

} // namespace gnv
