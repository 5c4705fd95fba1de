// Text that arrives token by token, where a token may end inside a character.
#pragma once

#include <string>
#include <string_view>

namespace gnv {

// The pieces together are utf8_lossy() of all bytes; each is valid UTF-8.
class TextStream {
  public:
    // The text so far, without an incomplete character.
    std::string push(std::string_view bytes);
    // The rest, at the end.
    std::string finish();

  private:
    std::string pending_;
};

} // namespace gnv
