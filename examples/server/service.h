// The routes of the server.
#pragma once

#include "api_request.h"
#include "text_engine.h"

#include <httplib.h>

namespace server {

struct ServiceOptions {
    std::string name;            // of the model
    std::string api_key;         // "": none is asked for
    size_t body_bytes = 2 << 20; // of a request, at most
    int read_seconds = 30;       // for the whole body
    size_t connections = 64;     // that are served at once, waiting ones included
    bool quiet = false;          // no line for each request on standard error
};

class Service {
  public:
    Service(const ServiceOptions & options, TextEngine & engine, PromptMaker & prompts);
    // Declares the routes and limits.
    void attach(httplib::Server & http);
    // Returns when no answer is being written any more, or after `seconds`.
    void wait_for_answers(int seconds) const;

  private:
    using Parse = ApiRequest (*)(const std::string &, const ModelLimits &, PromptMaker &);
    void answer(const httplib::Request & request, httplib::Response & response, const httplib::ContentReader & reader,
                Parse parse);
    void check_key(const httplib::Request & request) const;
    std::string read_body(const httplib::Request & request, const httplib::Response & response,
                          const httplib::ContentReader & reader) const;
    void list_models(const httplib::Request & request, httplib::Response & response) const;

    const ServiceOptions options_;
    const ModelLimits limits_;
    TextEngine & engine_;
    PromptMaker & prompts_;
    // The number of owners beside this one is that of the answers being made.
    const std::shared_ptr<int> answers_ = std::make_shared<int>();
};

} // namespace server
