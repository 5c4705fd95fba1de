// Packs the weights of a group in the memory of a device, and delivers the result in pieces of host memory while the
// device does other work. The bytes are those of the CPU's codec.
//
//   largest magnitudes of all units ─► host: their scales ─► packed piece by piece ─► copied to a ring of host memory ─► take
//
// The destruction of a piece frees its place in the ring, and its twin on the device.
#pragma once

#include "exec/backend.h"
#include "quant/plan.h"
#include "quantize/packing/unit_statistics.h"
#include "run/weight_group.h"

#include <array>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

namespace gnv {

class DevicePacker {
  public:
    struct Size {
        uint64_t piece_bytes = 0;
        uint32_t pieces = 0; // of the ring; 0: no units to pack, or no room
        uint64_t maxima_bytes = 0;
        uint64_t work_bytes = 0; // for a quantizer that needs moments, of the device alone
        uint64_t device_bytes() const { return host_bytes() + work_bytes; }
        uint64_t host_bytes() const { return pieces * piece_bytes + maxima_bytes; } // a twin of each
        void reserve(uint32_t devices, Budget & on_host, Budget & on_device) const {
            on_host.reserve("packed weights", devices * host_bytes());
            on_device.reserve("packed weights", host_bytes());
            if (work_bytes > 0) on_device.reserve("search for scales", work_bytes);
        }
    };
    // For the largest block of the plan, within a share of these budgets, with the kernels of `device` (null: those that need
    // no memory to work in).
    static Size size_for(const Plan & plan, uint64_t device_budget, uint64_t host_budget, Backend * device = nullptr);
    static Result<std::unique_ptr<DevicePacker>> create(Backend & device, const Plan & plan, const Size & size);
    ~DevicePacker(); // all pieces must be destroyed

    const Size & size() const { return size_; }

    // Rows of one module, and their places in the piece.
    struct Part {
        uint32_t unit = 0, module = 0; // positions in Plan::units, Plan::modules
        int64_t row = 0, rows = 0;
        std::array<uint64_t, most_components> data = {}; // by component of Scope::rows: bytes from the start
        float scale = 0;                                 // of the unit
    };
    class Piece {
      public:
        explicit Piece(DevicePacker & packer) : packer_(packer) {}
        ~Piece() {
            if (slot_ != no_slot) packer_.release(slot_);
        }
        Piece(const Piece &) = delete;
        Piece & operator=(const Piece &) = delete;

        Status wait() { return arrived_->wait(); } // until it is in host memory; any thread
        uint8_t * data() const { return packer_.host(slot_); }
        const std::vector<Part> & parts() const { return parts_; }

      private:
        friend class DevicePacker;
        static constexpr uint32_t no_slot = UINT32_MAX;
        DevicePacker & packer_;
        uint32_t slot_ = no_slot; // of the ring
        std::vector<Part> parts_;
        std::unique_ptr<Fence> arrived_;
    };

    // Whether the device has kernels for the unit's format, and the group holds all its weights unchanged, in BF16.
    bool can_pack(const PlanUnit & unit, const WeightGroup & weights) const;
    // What comes out of it. A failure of a callback stops the packing.
    struct Receiver {
        std::function<Status(std::shared_ptr<Piece>)> take; // pieces, in order
        std::function<Status(uint32_t unit)> not_finite;    // makes the failure of a unit with NaN or Inf
        std::function<void(uint32_t module, const MethodChoices &)> choices = {}; // of some rows; null: not wanted
    };
    // Packs `units` (positions in Plan::units with can_pack()) from `weights` on the device, with `statistics` (may be null) of
    // their inputs. When it returns, all work is queued; later work in the queue may change weights and statistics. Waits
    // while the ring is full.
    Status pack(const std::vector<uint32_t> & units, const WeightGroup & weights, const UnitStatistics * statistics,
                const Receiver & receiver);

  private:
    DevicePacker(Backend & device, const Plan & plan, const Size & size) : device_(device), plan_(plan), size_(size) {}
    uint8_t * host(uint32_t slot) const;
    uint8_t * on_device(uint32_t slot) const;
    void * work() const { return on_device(size_.pieces) + size_.maxima_bytes; }
    const uint16_t * weights_of(const LinearModule & linear, const WeightGroup & weights) const;
    Status find_scales(const std::vector<uint32_t> & units, const WeightGroup & weights,
                       const std::function<Status(uint32_t unit)> & not_finite, std::vector<float> & scales);
    DeviceQuantizer * quantizer_for(const Format & format) const {
        return device_.quantizer(plan_.quantizer().name(), format);
    }
    std::shared_ptr<Piece> next_piece(); // waits for a free place
    Status send(std::shared_ptr<Piece> piece, const WeightGroup & weights, const UnitStatistics * statistics,
                const Receiver & receiver);
    Status pack_units(const std::vector<Part> & parts, const std::vector<WeightsToPack> & weights,
                      const UnitStatistics * statistics, const Receiver & receiver);
    void release(uint32_t slot);

    Backend & device_;
    const Plan & plan_;
    const Size size_;
    DeviceMemory device_memory_; // the ring, the maxima, then the memory to work in
    HostMemory host_memory_;
    std::mutex mutex_;
    std::condition_variable released_;
    std::vector<uint32_t> free_slots_;
};

// What a device packs with: a group's weights in its memory, its packer (null: the CPU packs), and what was measured of
// their inputs, in its memory.
struct PackingLane {
    const WeightGroup * weights = nullptr;
    DevicePacker * packer = nullptr;
    const UnitStatistics * statistics = nullptr;
};

} // namespace gnv
