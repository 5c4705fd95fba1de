#include "core/status.h"

#include <cerrno>
#include <doctest/doctest.h>
#include <new>
#include <stdexcept>

using namespace gnv;

static Result<int> half(int n) {
    if (n % 2) return fail(Code::invalid_argument, n, " is odd");
    return n / 2;
}

static Result<int> quarter(int n) {
    GNV_ASSIGN(const int first, half(n));
    GNV_ASSIGN(const int second, half(first));
    return second;
}

TEST_CASE("a success is empty and a failure carries code, message and context") {
    CHECK(Status().ok());
    CHECK(Status().message().empty());
    Status status = fail(Code::io, "cannot read byte ", 7);
    CHECK_FALSE(status.ok());
    CHECK(status.code() == Code::io);
    status.add_context("shard 3");
    CHECK(status.message() == "shard 3: cannot read byte 7");
    CHECK(Status().add_context("ignored").ok());
}

TEST_CASE("results pass values on and stop at the first failure") {
    CHECK(quarter(12).value() == 3);
    CHECK(quarter(6).status().message() == "3 is odd");
}

TEST_CASE("errno maps to the codes callers act on") {
    CHECK(system_failure(ENOSPC, "").code() == Code::no_space);
    CHECK(system_failure(ENOENT, "").code() == Code::not_found);
    CHECK(system_failure(EEXIST, "").code() == Code::already_exists);
    CHECK(system_failure(EIO, "").code() == Code::io);
}

TEST_CASE("lack of memory is a status like others, but shared") {
    Status first = Status::out_of_memory(), second = Status::out_of_memory();
    CHECK(first.code() == Code::out_of_memory);
    CHECK(first.message() == "out of memory");
    first.add_context("reading x");
    CHECK(first.message() == "reading x: out of memory");
    CHECK(second.message() == "out of memory");
    second = Status();
    CHECK(Status::out_of_memory().message() == "out of memory");
}

TEST_CASE("what a body throws becomes a status") {
    CHECK(guard_exceptions([] { return Status(); }).ok());
    CHECK(guard_exceptions([] { return fail(Code::io, "x"); }).code() == Code::io);
    CHECK(guard_exceptions([]() -> Status { throw std::bad_alloc(); }).code() == Code::out_of_memory);
    const Status status = guard_exceptions([]() -> Status { throw std::runtime_error("odd"); });
    CHECK(status.code() == Code::internal);
    CHECK(status.message().find("odd") != std::string::npos);
    CHECK(guard_exceptions([]() -> Status { throw 7; }).code() == Code::internal);
}

TEST_CASE("a message is one printable line, whatever names are in it") {
    Status status = fail(Code::io, "cannot open ", "a\x1b[2J\nb");
    CHECK(status.message() == "cannot open a\\x1b[2J\\x0ab");
    status.add_context("in \x07");
    CHECK(status.message() == "in \\x07: cannot open a\\x1b[2J\\x0ab"); // what is escaped stays as it is
}
