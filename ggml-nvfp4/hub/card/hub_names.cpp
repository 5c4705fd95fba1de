#include "hub/card/hub_names.h"

#include "core/utf8.h"

#include <algorithm>

namespace gnv {

namespace {

constexpr size_t longest_name = 1024, longest_part = 255; // a part becomes the name of a file here
constexpr std::string_view letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";

std::string escape(std::string_view text, std::string_view kept) {
    static const char digits[] = "0123456789ABCDEF";
    std::string out;
    for (const char c : text) {
        if (letters.find(c) != letters.npos || kept.find(c) != kept.npos) {
            out += c;
        } else {
            const auto byte = static_cast<unsigned char>(c);
            out += {'%', digits[byte >> 4], digits[byte & 15]};
        }
    }
    return out;
}

const char * name_problem(std::string_view name) {
    if (name.empty()) return "is empty";
    if (name.size() > longest_name) return "is longer than 1,024 bytes";
    if (utf8_valid_prefix(name) != name.size()) return "is no valid UTF-8";
    for (const char c : name)
        if (static_cast<unsigned char>(c) < 32 || c == 127) return "has a control character";
    if (name.find('\\') != name.npos) return "has a backslash";
    if (name[0] == '/') return "is an absolute path";
    for (size_t begin = 0; begin <= name.size();) {
        const size_t end = std::min(name.find('/', begin), name.size());
        const std::string_view part = name.substr(begin, end - begin);
        if (part.empty()) return "has an empty part";
        if (part == "." || part == "..") return "leads out of its folder";
        if (part == ".git") return "has the part .git";
        if (part.size() > longest_part) return "has a part longer than 255 bytes";
        begin = end + 1;
    }
    return nullptr;
}

} // namespace

std::string RepositoryName::text() const { return organization + "/" + name; }

std::string RepositoryName::cache_folder() const {
    return concat(kind == RepositoryKind::model ? "models--" : "datasets--", organization, "--", name);
}

std::string RepositoryName::api_path() const {
    return concat(kind == RepositoryKind::model ? "/api/models/" : "/api/datasets/", text());
}

std::string RepositoryName::web_path() const {
    return concat(kind == RepositoryKind::model ? "/" : "/datasets/", text());
}

bool is_hub_word(std::string_view text) {
    if (text.empty() || text[0] == '.' || text[0] == '-' || text.size() > 96) return false;
    for (const char c : text)
        if (letters.find(c) == letters.npos && std::string_view("._-").find(c) == std::string_view::npos) return false;
    return text.find("..") == text.npos && text.find("--") == text.npos;
}

bool is_hex(std::string_view text, size_t digits) {
    return text.size() == digits && text.find_first_not_of("0123456789abcdef") == text.npos;
}

Result<RepositoryName> parse_repository_name(RepositoryKind kind, const std::string & text) {
    RepositoryName out;
    out.kind = kind;
    const size_t at = text.find('@'), slash = text.find('/');
    const bool has_slash = slash != text.npos && slash < at;
    out.organization = has_slash ? text.substr(0, slash) : "";
    out.name = has_slash ? text.substr(slash + 1, at == text.npos ? text.npos : at - slash - 1) : "";
    if (!is_hub_word(out.organization) || !is_hub_word(out.name))
        return fail(Code::invalid_argument, "\"", printable(text),
                    "\" is no name of the hub: ORG/NAME or ORG/NAME@REVISION is wanted");
    if (at != text.npos) out.revision = text.substr(at + 1);
    if (const char * const problem = name_problem(out.revision))
        return fail(Code::invalid_argument, "\"", printable(text), "\": the revision ", problem);
    return out;
}

Status check_remote_name(const std::string & repository, std::string_view name) {
    const char * const problem = name_problem(name);
    if (!problem) return {};
    return fail(Code::format, repository, ": the hub names a file \"", printable(name), "\", which ", problem,
                ": nothing of this repository is downloaded");
}

std::string escape_path(std::string_view path) { return escape(path, "-._~/"); }
std::string escape_word(std::string_view word) { return escape(word, "-._~"); }

} // namespace gnv
