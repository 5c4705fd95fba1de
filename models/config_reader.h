// A strict reader of one object of a config.json: every key is read, known to have no influence, or reported.
#pragma once

#include "core/status.h"
#include "formats/json.h"

#include <cstdint>
#include <set>
#include <string>
#include <vector>

namespace gnv {

// A key of which the runtime supports some values only.
struct FixedKey {
    const char * key;
    const char * accepted[4]; // JSON texts; unused entries are null
};

class ConfigReader {
  public:
    // `prefix` is put before keys in unknown_keys(): empty for the whole file, else for example "text_config.".
    ConfigReader(JsonValue object, std::string prefix) : object_(std::move(object)), prefix_(std::move(prefix)) {}

    // False if the key is absent or null.
    bool find(const char * key, JsonValue & out);
    // Numbers within [low, high]. The first form fails if the key is absent or null, the others leave `out` unchanged.
    Status require_int(const char * key, int64_t low, int64_t high, int64_t & out);
    Status optional_int(const char * key, int64_t low, int64_t high, int64_t & out);
    Status optional_double(const char * key, double low, double high, double & out);
    Status optional_bool(const char * key, bool & out);
    // Code::unsupported if the key has a value that is not listed.
    Status expect(const FixedKey & fixed);

    // Marks keys that change neither tensors nor arithmetic.
    template <size_t count>
    void ignore(const char * const (&keys)[count]) {
        for (const char * key : keys) known_.insert(key);
    }
    // Appends the keys of the object that were not read or marked, in file order.
    Status unknown_keys(std::vector<std::string> & out) const;

    std::string where(const char * key) const; // "config.json: text_config.head_dim"

  private:
    Status check_int(const JsonValue & value, int64_t low, int64_t high, int64_t & out) const;
    JsonValue object_;
    std::string prefix_;
    std::set<std::string, std::less<>> known_;
};

} // namespace gnv
