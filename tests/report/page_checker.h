// A reader of pages that knows just enough of HTML to refuse what a report must not hold.
#pragma once

#include <algorithm>
#include <set>
#include <string>
#include <vector>

namespace gnv::test {

// What is wrong with a page; empty: nothing. Tags must balance, attributes be quoted, every svg have a title, and no
// attribute or style may name anything outside of the page.
inline std::vector<std::string> faults_of_page(const std::string & page) {
    static const std::set<std::string> empty = {"meta", "path", "rect", "br"};
    static const std::set<std::string> forbidden = {"script", "link",  "img",  "iframe",
                                                    "object", "embed", "base", "form"};
    std::vector<std::string> faults, open;
    const auto starts = [&](size_t at, const std::string & text) { return page.compare(at, text.size(), text) == 0; };
    if (!starts(0, "<!DOCTYPE html>\n<html lang=\"en\">")) faults.push_back("no doctype");
    std::set<std::string> ids, links;
    for (size_t at = 15; at < page.size();) {
        if (page[at] == '>') faults.push_back("a bare > at " + std::to_string(at));
        if (page[at] != '<') {
            at++;
            continue;
        }
        const bool closes = starts(at, "</");
        size_t i = at + (closes ? 2 : 1);
        std::string name;
        while (i < page.size() && isalnum(static_cast<unsigned char>(page[i]))) name += page[i++];
        if (name.empty()) faults.push_back("a bare < at " + std::to_string(at));
        if (forbidden.count(name)) faults.push_back("<" + name + ">");
        while (i < page.size() && page[i] != '>' && page[i] != '/') { // attributes
            if (page[i] == ' ') {
                i++;
                continue;
            }
            const size_t equals = page.find("=\"", i), end = page.find('"', equals + 2);
            if (equals == std::string::npos || end == std::string::npos) {
                faults.push_back("an attribute without quotes in <" + name + ">");
                return faults;
            }
            const std::string key = page.substr(i, equals - i), value = page.substr(equals + 2, end - equals - 2);
            if (key.find_first_of("<> '\"") != std::string::npos) faults.push_back("attribute " + key);
            if (key.compare(0, 2, "on") == 0 || key == "src" || value.find("url(") != std::string::npos)
                faults.push_back("attribute " + key + "=" + value);
            if (key == "href" && (value.empty() || value[0] != '#')) faults.push_back("a link to " + value);
            if (key == "href") links.insert(value.substr(1));
            if (key == "id" && !ids.insert(value).second) faults.push_back("a second id " + value);
            i = end + 1;
        }
        const bool ends_itself = page[i] == '/';
        if (ends_itself) i++;
        if (page[i] != '>') faults.push_back("<" + name + " has no end");
        if (closes) {
            if (open.empty() || open.back() != name) {
                faults.push_back("</" + name + "> at " + std::to_string(at));
                return faults;
            }
            open.pop_back();
        } else if (!ends_itself && !empty.count(name)) {
            open.push_back(name);
        }
        at = i + 1;
        if (!closes && name == "svg" && (!starts(at, "<title>") || starts(at, "<title></title>")))
            faults.push_back("an svg without a title");
        if (!closes && name == "style") {
            const size_t end = page.find("</style>", at);
            const std::string style = page.substr(at, end - at);
            for (const char * const word : {"url(", "@import", "http"})
                if (style.find(word) != std::string::npos) faults.push_back(std::string("style with ") + word);
            at = end;
        }
    }
    if (!open.empty()) faults.push_back("<" + open.back() + "> is never closed");
    for (const std::string & link : links)
        if (!ids.count(link)) faults.push_back("a link to #" + link + ", which is not there");
    for (const char * const word : {"nan", "inf", "-nan"}) // as numbers of a path or a cell
        for (const char * const before : {">", " ", "\"", "M", "L", "V", "h"})
            for (const char * const after : {"<", " ", "\"", "h", "V"})
                if (page.find(std::string(before) + word + after) != std::string::npos)
                    faults.push_back(std::string(word) + " as a number: " +
                                     page.substr(page.find(std::string(before) + word + after) - 60, 80));
    return faults;
}

inline std::string joined(const std::vector<std::string> & lines) {
    std::string out;
    for (const std::string & line : lines) out += line + "\n";
    return out;
}

} // namespace gnv::test
