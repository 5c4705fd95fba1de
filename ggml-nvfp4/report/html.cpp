#include "report/html.h"

#include "core/strings.h"
#include "core/utf8.h"
#include "report/figure_text.h"

namespace gnv {

std::string html_escape(std::string_view text) {
    const std::string valid = utf8_lossy(text);
    std::string out;
    out.reserve(valid.size());
    for (const char c : valid) {
        const auto byte = static_cast<unsigned char>(c);
        switch (c) {
        case '&': out += "&amp;"; break;
        case '<': out += "&lt;"; break;
        case '>': out += "&gt;"; break;
        case '"': out += "&quot;"; break;
        case '\'': out += "&#39;"; break;
        default:
            if ((byte < 0x20 && c != '\n' && c != '\t') || byte == 0x7f) {
                utf8_append(out, replacement_character);
            } else {
                out += c;
            }
        }
    }
    return out;
}

Html html_text(std::string_view text) { return Html(html_escape(text)); }

Html element(const char * name, const Html & content, const char * attributes) {
    return Html(concat("<", name, *attributes ? " " : "", attributes, ">", content.markup, "</", name, ">\n"));
}

Html paragraph(std::string_view text, const char * attributes) { return element("p", html_text(text), attributes); }

HtmlTable::HtmlTable(std::string title, const std::vector<std::string> & columns)
    : title_(std::move(title)), columns_(columns) {}

static bool is_number(const std::string & column) { return ends_with(column, "#"); }

HtmlTable & HtmlTable::cell(const Html & content) {
    const bool number = at_ < columns_.size() && is_number(columns_[at_]);
    const char * const tag = at_ == 0 ? "th" : "td";
    row_ += concat("<", tag, at_ == 0 ? " scope=\"row\"" : "", number ? " class=\"n\"" : "", ">", content.markup, "</",
                   tag, ">");
    at_++;
    return *this;
}

void HtmlTable::end_row() {
    rows_ += concat("<tr>", row_, "</tr>\n");
    row_.clear();
    at_ = 0;
}

Html HtmlTable::finish() const {
    if (empty()) return {};
    std::string head;
    for (const std::string & column : columns_) {
        const bool number = is_number(column);
        head += concat("<th scope=\"col\"", number ? " class=\"n\"" : "", ">",
                       html_escape(column.substr(0, column.size() - number)), "</th>");
    }
    return Html(concat("<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"", html_escape(title_),
                       "\"><table>\n<caption>", html_escape(title_), "</caption>\n<thead><tr>", head,
                       "</tr></thead>\n<tbody>\n", rows_, "</tbody>\n</table></div>\n"));
}

FactList & FactList::add(const char * name, std::string_view value) {
    if (value.empty() || value == no_figure) return *this;
    list_ += concat("<div><dt>", html_escape(name), "</dt><dd>", html_escape(value), "</dd></div>\n");
    return *this;
}

Html list(const std::vector<std::string> & lines) {
    Html out;
    for (const std::string & line : lines) out += element("li", html_text(line));
    return out.empty() ? out : element("ul", out);
}

Html details(std::string_view summary, const Html & content) {
    if (content.empty()) return {};
    Html inside = element("summary", html_text(summary));
    inside += content;
    return element("details", inside);
}

} // namespace gnv
