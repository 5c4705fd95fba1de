// Pieces of a page for a browser. Text is escaped where it enters; markup is a type of its own, so that the two are not mixed.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace gnv {

// Text for content and quoted attributes: & < > " ' are replaced, invalid UTF-8 and control characters become U+FFFD.
std::string html_escape(std::string_view text);

// Markup that is ready for a page.
struct Html {
    std::string markup;

    Html() = default;
    explicit Html(std::string ready) : markup(std::move(ready)) {}
    bool empty() const { return markup.empty(); }
    Html & operator+=(const Html & more) {
        markup += more.markup;
        return *this;
    }
};

Html html_text(std::string_view text);
// <name attributes>content</name>; `attributes` are ours and need no escape.
Html element(const char * name, const Html & content, const char * attributes = "");
Html paragraph(std::string_view text, const char * attributes = "");

// A table that scrolls sideways where it is too wide. Columns whose title ends with '#' hold numbers; the '#' is not shown.
class HtmlTable {
  public:
    explicit HtmlTable(std::string title, const std::vector<std::string> & columns);
    HtmlTable & cell(std::string_view text) { return cell(html_text(text)); }
    HtmlTable & cell(const Html & content);
    void end_row();
    bool empty() const { return rows_.empty(); }
    Html finish() const;

  private:
    std::string title_;
    std::vector<std::string> columns_;
    std::string row_, rows_;
    size_t at_ = 0;
};

// Names and values, side by side. Entries without a value are left out.
class FactList {
  public:
    FactList & add(const char * name, std::string_view value);
    Html finish() const { return list_.empty() ? Html() : element("dl", Html(list_), "class=\"facts\""); }

  private:
    std::string list_;
};

Html list(const std::vector<std::string> & lines);
// Content that is closed until a reader opens it.
Html details(std::string_view summary, const Html & content);

} // namespace gnv
