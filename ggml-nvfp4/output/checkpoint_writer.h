// The writer of a checkpoint folder. Every byte has its place before the first is written, tensors arrive in any order
// from any thread, and the folder gets its name only when all of it is on disk.
//
//   DST.partial/   journal                          the tensors that are safely on disk (see docs/format.md)
//                  model-0000N-of-0000M.safetensors  of full size from the start, filled by positioned writes
//                  resume-state.bin                 the state of a calculation, for a run that goes on with this one
//                  other files, then the index, then config.json
//   DST/           the same without the journal: DST.partial renamed in the last step
#pragma once

#include "core/dtype.h"
#include "core/status.h"
#include "formats/file.h"
#include "output/destination.h"
#include "output/running_hashes.h"

#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace gnv {

class FileRoom;

struct OutputTensor {
    std::string name;
    DType dtype = DType::u8;
    std::vector<int64_t> shape;
    uint64_t bytes = 0;
    // Of the few bytes that come after all else.
    static constexpr int32_t last_turn = std::numeric_limits<int32_t>::max();
    int32_t turn = 0; // tensors of a lower one are finished earlier
    // filled by lay_out():
    uint32_t shard = 0;
    uint64_t offset = 0; // absolute, in the shard's file
};

struct OutputShard {
    std::string file_name;
    uint64_t data_begin = 0; // bytes of the header, length prefix included
    uint64_t file_bytes = 0;
    std::vector<uint32_t> tensors; // in file order
};

struct OutputLayout {
    std::vector<OutputTensor> tensors;
    std::vector<OutputShard> shards;

    uint64_t tensor_bytes() const; // sum over all tensors
    uint64_t file_bytes() const;   // with headers
    // Of the shard that is finished last, apart from tensors of the last turn.
    uint64_t last_file_bytes() const;
};

// Fills shards greedily in the given order up to `shard_bytes` of tensor data each (a larger tensor gets a shard of its
// own), or less where the last tensors of a run come. Inside a shard, tensors come by their turn, so that its hash can
// follow the run, and in a turn wider elements come first. Every tensor is aligned to its element size: where turns prevent
// this, wider elements come first in the whole shard.
// One shard is named model.safetensors, several model-00001-of-0000N.safetensors.
OutputLayout lay_out(std::vector<OutputTensor> tensors, uint64_t shard_bytes);

// The header of one shard, as written at byte 0.
std::string shard_header(const OutputLayout & layout, size_t shard);
// The text of model.safetensors.index.json; empty for a single shard, which has none.
std::string index_text(const OutputLayout & layout);

class CheckpointWriter {
  public:
    struct Options {
        Destination destination; // see Destination::resumes
        // Of plan and source: only a run with the same ones may continue an unfinished folder.
        std::string plan_fingerprint, source_fingerprint;
        int hash_threads = 0;    // that hash the shards beside the run, at most; 0: hashes() stays empty
        Trace * trace = nullptr; // of their times; may be null
    };

    // Makes DST.partial with the journal and the shards, and writes their headers. Their room on the disk is reserved in the
    // background, which takes seconds in a file system in memory. `layout` must outlive the writer.
    static Result<std::unique_ptr<CheckpointWriter>> create(const OutputLayout & layout, const Options & options);
    ~CheckpointWriter(); // leaves DST.partial as it is, journal included

    // The first failure in the background so far.
    Status status() const;
    // `size` bytes at `offset` of the tensor; any thread.
    struct Piece {
        uint32_t tensor = 0;
        const void * data = nullptr;
        uint64_t size = 0, offset = 0;
    };
    Status write(const Piece & piece) { return write(std::vector<Piece>{piece}); }
    // The same of several, which is faster where they are neighbours in a file.
    Status write(std::vector<Piece> pieces);
    // All bytes of the tensor were written; it enters the journal after the next sync. Also returns status().
    Status finished(uint32_t tensor);
    // Waits until all room is reserved, every tensor is on disk and in the journal; settle(): every one that finished() was
    // called for.
    Status finish_tensors();
    Status settle();
    // After finish_tensors(): waits until the shards are hashed, as RunningHashes::finish() does.
    Status finish_hashes(const std::function<Status()> & goes_on);
    const KnownHashes & hashes() const; // of shards; none without hash_threads

    // The run that this one goes on with, if there is one.
    bool goes_on() const;
    bool is_done(uint32_t tensor) const; // it is on disk; it may be written again, with the same bytes
    // Copies the tensors that are on disk in the unfinished folder of another run, and returns when they are in this
    // one: they are done then. Fails unless that run ended, its journal has `identity` and its shards this layout.
    // `copied` is called after each tensor.
    Status take(const std::string & folder, const RunIdentity & identity, const std::function<Status()> & copied);
    bool is_complete() const; // all files are on disk: publish_complete() alone is left
    // The file of the state, `bytes` long, as that run left it, or new. Its room is reserved like that of shards.
    Result<const File *> state_file(uint64_t bytes);
    std::optional<StateRecord> state() const;        // the last that it recorded
    Status record_state(const StateRecord & record); // once the file is synced

    // Other files of the folder, synced. Names may hold one level of folders and more ("images/a.png").
    Status add_file(const std::string & name, const std::string & content);
    // Code::changed when the file at `from` is no longer the one with this stamp.
    Status copy_file(const std::string & name, const std::string & from, const FileStamp & stamp);

    // Writes index and config and gives the folder its name. A shard that vanished or was replaced meanwhile is an
    // error. `last` (may be empty) adds a file that depends on all others.
    Status publish(const std::string & config_text, const std::function<Status(CheckpointWriter &)> & last = {});
    Status publish_complete();
    double removal_seconds() const; // of either: for the checkpoint that was replaced

    // The path of the unfinished folder, for messages.
    const std::string & partial_folder() const;
    const std::vector<std::string> & notes() const; // for the user

  private:
    struct State;
    explicit CheckpointWriter(std::unique_ptr<State> state);
    Status make_shard(size_t shard);
    Status write_run(const Piece * first, size_t count);
    Status make_room(std::shared_ptr<FileRoom> room, uint64_t bytes, const char * context = "");
    Status start_hashes(const Options & options);
    Status tell_hashes(uint32_t tensor);
    Status go_on();
    std::unique_ptr<State> state_;
};

} // namespace gnv
