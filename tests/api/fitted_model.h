// A checkpoint whose draft head guesses now and then what comes.
#pragma once

#include <string>

namespace gnv::test {

const std::string & folder_with_fitted_draft();

} // namespace gnv::test
