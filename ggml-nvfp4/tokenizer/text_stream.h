// Text that arrives token by token, where a token may end inside a character.
#pragma once

#include <string>
#include <string_view>

namespace gnv {

// The pieces together are utf8_lossy() of all bytes together; each is valid UTF-8.
class TextStream {
  public:
    // What can be said now: everything but a character that is not finished.
    std::string push(std::string_view bytes);
    // The rest, when nothing follows.
    std::string finish();

  private:
    std::string pending_;
};

} // namespace gnv
