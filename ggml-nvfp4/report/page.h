// Pages of reports: sections with text, tables and charts, made from the document of facts alone.
#pragma once

#include "report/fact.h"
#include "report/html.h"

#include <map>
#include <string>
#include <vector>

namespace gnv {

enum class Tone : uint8_t { neutral, good, warning, bad };

class Page {
  public:
    explicit Page(std::string title) : title_(std::move(title)) {}
    void headline(std::string_view subtitle, Tone tone, std::string_view verdict);
    // A figure of the first screen; one that is not known is left out.
    void tile(const char * name, std::string_view value, std::string_view note = {}, Tone tone = Tone::neutral);
    // Sections without content are left out.
    void section(const char * id, const char * title, const Html & content, std::string_view lead = {});
    std::string finish(const Fact & facts) const;

  private:
    std::string title_;
    Html head_, tiles_, navigation_, sections_;
};

Html pill(std::string_view text, Tone tone);
Html charts(const Html & figures); // beside each other where there is room
Html meter(double share);          // a small bar with its percentage; empty for NaN

// Rows of facts by role and layer. A chart shows roles that occur in the same layers, at most so many at a time.
struct LayerRows {
    std::vector<std::string> roles; // in their order in the document
    std::map<std::string, std::map<double, Fact>> rows;

    void add(const Fact & row); // with "role" and "layer"
    struct Group {
        std::vector<std::string> roles;
        std::vector<double> layers;
    };
    std::vector<Group> groups(size_t at_a_time) const;
};
// `key` names a member of each row with "minimum", "median" and "maximum"; empty: the row itself has them.
Html range_charts(const LayerRows & rows, const char * title, const char * axis, const char * key);

// Blocks that pages share.
Html engines_block(const Fact & engines);
Html phases_block(const Fact & phases);
Html expert_tokens_chart(const std::vector<std::vector<double>> & tokens); // by layer

Html gates_block(const Fact & output); // of its "gates"

void add_predictions(Page & page, const Fact & output); // of a document ggml-nvfp4.evaluation.1
void add_canary(Page & page, const Fact & canary);      // ggml-nvfp4.canary.1
std::string quantize_page(const Fact & facts);
std::string verify_page(const Fact & facts);

} // namespace gnv
