#include "core/status.h"

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <new>
#include <system_error>

namespace gnv {

const char * code_name(Code code) {
    switch (code) {
    case Code::ok: return "ok";
    case Code::invalid_argument: return "invalid argument";
    case Code::not_found: return "not found";
    case Code::already_exists: return "already exists";
    case Code::cancelled: return "cancelled";
    case Code::unsupported: return "unsupported";
    case Code::format: return "damaged file";
    case Code::model: return "checkpoint does not match its config";
    case Code::changed: return "source changed";
    case Code::bad_value: return "NaN or Inf";
    case Code::io: return "input/output error";
    case Code::no_space: return "no space";
    case Code::out_of_memory: return "out of memory";
    case Code::device: return "device error";
    case Code::internal: return "internal error";
    }
    return "unknown status";
}

// Messages hold names from files and folders. Every message passes here and becomes safe to print.
Status::Status(Code code, const std::string & message) : failure_(new Failure{code, printable_line(message)}) {
    GNV_CHECK(code != Code::ok);
}

const std::string & Status::message() const {
    static const std::string none;
    return failure_ ? failure_->message : none;
}

Status::Failure & Status::no_memory() noexcept {
    static Failure failure{Code::out_of_memory, "out of memory"}; // short enough to lie inside the string object
    return failure;
}

void Status::Release::operator()(Failure * failure) const noexcept {
    if (failure != &no_memory()) delete failure;
}

Status Status::out_of_memory() noexcept {
    Status status;
    status.failure_.reset(&no_memory());
    return status;
}

Status & Status::add_context(const std::string & context) & {
    if (failure_) *this = Status(failure_->code, context + ": " + failure_->message);
    return *this;
}

Status && Status::add_context(const std::string & context) && { return std::move(add_context(context)); }

Status status_of_current_exception() noexcept {
    try {
        try {
            throw;
        } catch (const std::bad_alloc &) {
            return Status::out_of_memory();
        } catch (const std::exception & error) {
            return fail(Code::internal, "unexpected exception: ", error.what());
        } catch (...) {
            return Status(Code::internal, "unexpected exception of unknown type");
        }
    } catch (...) { // no memory for a message
        return Status::out_of_memory();
    }
}

static Code code_from_errno(int error_number) {
    switch (error_number) {
    case ENOENT:
    case ENOTDIR: return Code::not_found;
    case EEXIST:
    case ENOTEMPTY: return Code::already_exists;
    case ENOSPC:
    case EDQUOT:
    case EFBIG: return Code::no_space;
    case ENOMEM: return Code::out_of_memory;
    default: return Code::io;
    }
}

Status status_from_errno(int error_number, const std::string & action) {
    return fail(code_from_errno(error_number), action, ": ", std::generic_category().message(error_number));
}

void check_failed(const char * file, int line, const char * condition) {
    // The only place where the library writes to a stream: the process ends because of our own bug.
    fprintf(stderr, "ggml-nvfp4: internal check failed at %s:%d: %s\nPlease report this with the command you ran.\n",
            file, line, condition);
    abort();
}

} // namespace gnv
