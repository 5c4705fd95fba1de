// The members of a JSON object that a client sent: each is taken once, with its type and range; what is left is refused.
#pragma once

#include "api_error.h"
#include "tool_calls.h"

#include <cstdint>
#include <limits>
#include <set>
#include <string>

namespace server {

class Fields {
  public:
    // Throws ApiError if the text is no JSON object, or nested too deeply.
    static Json parse(const std::string & body);

    explicit Fields(const Json & object) : object_(object) {}
    // Null where the member is absent or null.
    const Json * take(const std::string & name);
    // Takes members that say nothing about the text.
    void pass_over(std::initializer_list<const char *> names) { taken_.insert(names.begin(), names.end()); }
    // A member of which only this value is served; `why` is told about others.
    void take_only(const std::string & name, const Json & value, const std::string & why);
    bool flag(const std::string & name);
    // In [least, most], or above least; `absent` without the member.
    double number(const std::string & name, double absent, double least, double most, bool above = false);
    int64_t integer(const std::string & name, int64_t absent, int64_t least, int64_t most);
    // Throws for members that nothing has taken.
    void refuse_others() const;

  private:
    const Json & object_;
    std::set<std::string> taken_;
};

} // namespace server
