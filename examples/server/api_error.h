// Errors in the form of the OpenAI API.
#pragma once

#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>

namespace server {

struct ApiError : std::runtime_error {
    // `param`: the member of the request; `code`: for programs. "": null.
    ApiError(int status_, const std::string & message, std::string param_ = "", std::string code_ = "")
        : std::runtime_error(message), status(status_), param(std::move(param_)), code(std::move(code_)) {}
    const int status; // of HTTP
    const std::string param, code;

    nlohmann::ordered_json json() const {
        const auto text_or_null = [](const std::string & text) {
            return text.empty() ? nlohmann::ordered_json() : nlohmann::ordered_json(text);
        };
        const char * type = status >= 500 ? "server_error" : "invalid_request_error";
        if (status == 429) type = "rate_limit_error";
        return {{"error",
                 {{"message", what()}, {"type", type}, {"param", text_or_null(param)}, {"code", text_or_null(code)}}}};
    }
    std::string text() const { return json().dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace); }
};

} // namespace server
