// The block about the length canary of a page of verify.
#include "report/figure_text.h"
#include "report/page.h"

#include "core/strings.h"

namespace gnv {

static std::string name_of(const std::string & line) {
    return line == "w4a4" ? "W4A4" : line == "w4a16" ? "W4A16" : line;
}

static Html lines_table(const Fact & canary) {
    HtmlTable table("Answers by variant",
                    {"answers of", "mean tokens#", "/ source's#", "capped#", "repeating#", "as the source#"});
    for (const auto & [name, line] : canary["lines"].members()) {
        table.cell(name_of(name)).cell(figure_text(line["mean_tokens"].number()));
        table.cell(figure_text(line["growth"].number())).cell(percent_text(line["capped"].number()));
        table.cell(percent_text(line["repeating"].number())).cell(percent_text(line["equal"].number())).end_row();
    }
    return table.finish();
}

// Every prompt with the answers that differ from each other, the ones that went wrong marked.
static Html answers_block(const Fact & canary) {
    Html out;
    for (const Fact & row : canary["answers"].items()) {
        Html content = paragraph(row["prompt"].text());
        for (const auto & [name, unused] : canary["lines"].members()) {
            const Fact answer = row[name];
            const bool capped = answer["capped"].is_true(), repeats = answer["repeats"].is_true();
            const Html mark = pill(name_of(name), repeats ? Tone::bad : capped ? Tone::warning : Tone::neutral);
            content += element("p",
                               Html(mark.markup + " " +
                                    html_escape(concat(figure_text(answer["tokens"].number()), " tokens",
                                                       capped ? ", capped" : "", repeats ? ", repeats itself" : "")) +
                                    "<br>" + html_escape(answer["text"].text())),
                               "class=\"text\"");
        }
        out += element("div", content, "class=\"context\"");
    }
    return details("All answers", out);
}

void add_canary(Page & page, const Fact & canary) {
    if (!canary["lines"].known()) return;
    Html block = lines_table(canary);
    block += gates_block(canary);
    std::vector<std::string> notes;
    for (const Fact & note : canary["notes"].items()) notes.push_back(note.text());
    block += list(notes);
    block += answers_block(canary);
    page.section("answers", "Answers", block,
                 concat("Greedy answers to ", figure_text(canary["prompts"].number()), " prompts, of at most ",
                        figure_text(canary["max_tokens"].number()), " tokens, in ", canary["precision"].text(), " on ",
                        canary["device"].text(), canary["thinking"].is_true() ? "." : ", without thinking."));
}

} // namespace gnv
