#include "report/report_file.h"

#include "core/strings.h"
#include "formats/new_file.h"
#include "report/page.h"

namespace gnv {

static bool is_page(const std::string & path) { return ends_with(path, ".html") || ends_with(path, ".htm"); }

Status check_report_file(const std::string & path) {
    if (!is_page(path) && !ends_with(path, ".json"))
        return fail(
            Code::invalid_argument, path,
            ": the name of a report ends in .html (a page for a browser) or .json (the same facts for programs)");
    return check_new_file(path);
}

Status write_report_file(const std::string & path, const std::string & json) {
    GNV_TRY(check_report_file(path));
    if (!is_page(path)) return write_new_file(path, json);
    GNV_ASSIGN(const std::string page, report_page(json));
    return write_new_file(path, page);
}

Result<std::string> report_page(const std::string & json) {
    GNV_ASSIGN(const JsonDocument document, JsonDocument::parse(json, "the report"));
    const Fact facts(document.root());
    const std::string schema = facts["schema"].text();
    if (schema == "ggml-nvfp4.quantize.1") return quantize_page(facts);
    if (schema == "ggml-nvfp4.verify.1") return verify_page(facts);
    return fail(Code::unsupported, "there is no page for documents of schema '", printable(schema),
                "', only for ggml-nvfp4.quantize.1 and ggml-nvfp4.verify.1");
}

} // namespace gnv
