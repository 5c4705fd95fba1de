// The file of --report: a page for a browser, or the document of facts that the page is made from.
#pragma once

#include "core/status.h"

#include <string>

namespace gnv {

// Fails unless the name ends in .html or .json and a new file can be made there.
Status check_report_file(const std::string & path);
// `json`: a document ggml-nvfp4.quantize.1 or ggml-nvfp4.verify.1. The file gets its name when it is complete.
Status write_report_file(const std::string & path, const std::string & json);
// The page of such a document: one file without scripts that loads nothing. Equal facts give equal bytes.
Result<std::string> report_page(const std::string & json);

} // namespace gnv
