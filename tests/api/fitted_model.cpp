#include "api/fitted_model.h"

#include "forward/drafted_text.h"

const std::string & gnv::test::folder_with_fitted_draft() { return fitted_folder(); }
