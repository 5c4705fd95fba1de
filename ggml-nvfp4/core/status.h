// Status and Result<T> carry every failure that a file, option, disk or device can cause to the caller.
//
// A Status is one pointer wide; success allocates nothing. On the way up each layer may prepend context ("tensor X:
// shard Y: offset Z: ..."), so the message names the file, the tensor and the place. A failure that only a bug in this
// library can cause is no Status but a GNV_CHECK, which aborts.
#pragma once

#include "core/strings.h"

#include <memory>
#include <optional>
#include <string>
#include <utility>

namespace gnv {

// The numbers are part of the C API (gnv_status in ggml-nvfp4-base.h mirrors them); gaps leave room inside each family.
enum class Code : int {
    ok = 0,
    // the caller's request
    invalid_argument = 1, // an option or parameter that makes no sense
    not_found = 2,        // a file, tensor or module that was named does not exist
    already_exists = 3,   // a destination exists already
    cancelled = 4,        // the caller's callback or a signal asked to stop
    unsupported = 5,      // valid input that this build or version does not handle
    // the input files
    format = 20,    // a file is damaged or does not follow its format
    model = 21,     // a well-formed checkpoint does not match its config
    changed = 22,   // the source changed while it was read
    bad_value = 23, // NaN or Inf where numbers are needed
    // the machine
    io = 40,            // read, write, sync or rename failed
    no_space = 41,      // the disk is full, or would be
    out_of_memory = 42, // an allocation failed, or a budget is too small
    device = 43,        // an accelerator failed
    // this library
    internal = 60, // an exception or a state that should not exist; please report
};

const char * code_name(Code code);

class [[nodiscard]] Status {
  public:
    Status() = default; // success
    // A failure: `code` is not Code::ok. The message becomes one printable line; names in it may hold any bytes.
    Status(Code code, const std::string & message);
    // Code::out_of_memory; allocates nothing.
    static Status out_of_memory() noexcept;

    bool ok() const { return failure_ == nullptr; }
    Code code() const { return failure_ ? failure_->code : Code::ok; }
    const std::string & message() const;

    // Prepends "context: " to the message of a failure; does nothing to a success.
    Status & add_context(const std::string & context) &;
    Status && add_context(const std::string & context) &&;

  private:
    struct Failure {
        Code code;
        std::string message;
    };
    struct Release {
        void operator()(Failure * failure) const noexcept;
    };
    static Failure & no_memory() noexcept; // shared by out_of_memory(), never freed
    std::unique_ptr<Failure, Release> failure_;
};

// Status is move-only; this copies one that is kept and reported more than once.
inline Status copy_of(const Status & status) {
    return status.ok() ? Status() : Status(status.code(), status.message());
}

// fail(Code::io, "cannot read ", path, " at byte ", offset)
template <class... Parts>
Status fail(Code code, const Parts &... parts) {
    return Status(code, concat(parts...));
}

// For a catch block: std::bad_alloc becomes Code::out_of_memory, other exceptions Code::internal. Never throws.
Status status_of_current_exception() noexcept;

// Runs `body`, a callable that returns Status; an exception becomes a Status.
template <class Body>
Status guard_exceptions(const Body & body) noexcept {
    try {
        return body();
    } catch (...) {
        return status_of_current_exception();
    }
}

// system_failure(errno, "cannot read ", path): a failure with the text of errno and the code that fits it (ENOSPC and
// EDQUOT become no_space, ...). It reads errno before it allocates.
Status status_from_errno(int error_number, const std::string & action);
template <class... Parts>
Status system_failure(int error_number, const Parts &... parts) {
    return status_from_errno(error_number, concat(parts...));
}

template <class T>
class [[nodiscard]] Result {
  public:
    Result(T value) : value_(std::move(value)) {}
    Result(Status status) : status_(std::move(status)) {}

    bool ok() const { return value_.has_value(); }
    T & value() { return *value_; }
    const T & value() const { return *value_; }
    const Status & status() const { return status_; }
    Status take_status() { return std::move(status_); }
    T take() { return std::move(*value_); }

  private:
    std::optional<T> value_;
    Status status_;
};

// Returns from the enclosing function when `expression` failed.
#define GNV_TRY(expression)                                                                                            \
    do {                                                                                                               \
        ::gnv::Status gnv_status_ = (expression);                                                                      \
        if (!gnv_status_.ok()) return gnv_status_;                                                                     \
    } while (0)

// GNV_ASSIGN(File file, File::open_read(path)): declares `file`, or returns the failure.
#define GNV_ASSIGN(declaration, expression) GNV_ASSIGN_(declaration, expression, GNV_JOIN_(gnv_result_, __LINE__))
#define GNV_ASSIGN_(declaration, expression, result)                                                                   \
    auto result = (expression);                                                                                        \
    if (!result.ok()) return result.take_status();                                                                     \
    declaration = result.take()
#define GNV_JOIN_(a, b)  GNV_JOIN2_(a, b)
#define GNV_JOIN2_(a, b) a##b

// For conditions that only a bug in this library can break; aborts in release builds too.
#define GNV_CHECK(condition)                                                                                           \
    do {                                                                                                               \
        if (!(condition)) ::gnv::check_failed(__FILE__, __LINE__, #condition);                                         \
    } while (0)
[[noreturn]] void check_failed(const char * file, int line, const char * condition);

} // namespace gnv
