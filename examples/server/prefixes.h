// Beginnings of recent prompts, kept as sessions: a prompt that begins alike goes on from a copy. Texts are those without: a
// beginning ends at a multiple of 64 positions and more than one id follows, which changes no bit (gnv_model_forward).
//
// Linear attention keeps no past, so a prompt stops where it is to be kept: near its end, where the next turn of a conversation
// goes on, and where it parts from another prompt, which is the end of a system's turn that many share.
#pragma once

#include "owners.h"

#include <cstdint>
#include <list>
#include <vector>

namespace server {

class Prefixes {
  public:
    // `most` beginnings at a time; 0: none.
    Prefixes(gnv_engine_t * engine, size_t most) : engine_(engine), most_(most) {}

    // A session that has run the longest beginning of the prompt `ids` which is kept, and how many ids that are; none without.
    Session find(const std::vector<int32_t> & ids, size_t & count);
    // Where the prompt stops to be kept, ascending and beyond `begun` ids.
    std::vector<size_t> stops(const std::vector<int32_t> & ids, size_t begun) const;
    // Keeps a copy of the session, which has run the first `count` of `ids`, if there is room for it.
    void keep(gnv_session_t * session, const std::vector<int32_t> & ids, size_t count);
    // Gives the room of the one that was used least recently to others. False: there is none.
    bool drop();
    void clear() { kept_.clear(); }

  private:
    struct Kept {
        std::vector<int32_t> ids;
        Session session;
    };
    gnv_engine_t * const engine_;
    const size_t most_;
    std::list<Kept> kept_; // the last is the one used most recently
};

} // namespace server
