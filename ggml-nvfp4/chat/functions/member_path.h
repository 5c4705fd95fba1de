// "function.name" or 0 or None: the member that a filter looks at, of each element.
#pragma once

#include "chat/functions/call.h"

namespace gnv::chat {

class MemberPath {
  public:
    // None is the element itself. `otherwise`, unless None, stands for members that are undefined.
    explicit MemberPath(const Value & path, const Value & otherwise = Value::none());
    static std::vector<MemberPath> several(const Value & paths); // "a,b.c"

    Result<Value> of(Engine & engine, const Value & element) const;

  private:
    std::vector<Value> parts_;
    Value otherwise_;
};

} // namespace gnv::chat
