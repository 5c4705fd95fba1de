// Whether the client of a request is still there. The HTTP library tells only when a write fails, which is too late for a text that
// is read or written for minutes.
#pragma once

#include <httplib.h>

namespace server {

class Connection {
  public:
    // Finds the connection among the open descriptors by the client's address and port. It is open until the request is answered.
    explicit Connection(const httplib::Request & request);
    // The client has closed its end; also if it has only said that it sends no more.
    bool is_gone() const;

  private:
    int descriptor_ = -1; // -1: not found, and never gone
};

} // namespace server
