// Driver of attention: heads prepared a few at a time, then blocks of their queries.

#include <algorithm>

#include "dispatch.h"
#include "drivers.h"
#include "scratch.h"
#include "threads.h"

namespace carsam {
namespace {

constexpr std::size_t PRODUCTS_AT_ONCE = 1 << 20;  // of a part; fewer are not worth another thread
constexpr std::size_t OVERHEAD = 1 << 12;          // products that take as long as starting a part
constexpr std::size_t QUERIES_OF_FEW_KEYS = 64;  // of a part
constexpr std::size_t PREPARED_BYTES = 8 << 20;    // of keys and values that are prepared at a time

struct HeadLayout {
    std::size_t panel_bytes, fixed_bytes, bytes;

    explicit HeadLayout(const Attention& op) {
        panel_bytes = rounded_up(op.padded_keys() * op.padded_head(), ALIGNMENT);
        const std::size_t constants = op.padded_keys() + op.padded_head();
        fixed_bytes = 2 * panel_bytes + rounded_up(constants * sizeof(std::int32_t), ALIGNMENT);
        const std::size_t row_numbers = op.table.values ? op.padded_keys() * op.padded_head() : 0;
        bytes = fixed_bytes + rounded_up(row_numbers * sizeof(std::int32_t), ALIGNMENT);
    }

    PreparedHead at(const Attention& op, std::uint8_t* memory) const {
        auto* constants = reinterpret_cast<std::int32_t*>(memory + 2 * panel_bytes);
        return {reinterpret_cast<std::int8_t*>(memory),
                reinterpret_cast<std::int8_t*>(memory + panel_bytes), constants,
                constants + op.padded_keys(),
                op.table.values ? reinterpret_cast<std::int32_t*>(memory + fixed_bytes) : nullptr};
    }
};

}  // namespace

void run_attention(const Attention& op) {
    const Kernels& set = kernels();
    const bool listed = op.table.values != nullptr;
    const bool few = !listed && !op.relative_rows && op.keys <= PANEL && op.queries >= PANEL;
    const auto attend = listed ? set.attend_with_table : few ? set.attend_to_few : set.attend;
    const std::size_t unit = few ? QUERIES_OF_FEW_KEYS : set.row_unit;
    const HeadLayout layout(op);
    const std::size_t heads = op.groups * op.heads;
    const std::size_t at_once =
        std::max<std::size_t>(1, std::min(heads, PREPARED_BYTES / layout.bytes));
    const std::size_t blocks = (op.queries + unit - 1) / unit;
    const std::size_t prepared = op.padded_keys() * op.padded_head() + OVERHEAD;
    const std::size_t products = prepared * std::min(op.queries, unit) * 2;
    auto* memory = scratch_of<std::uint8_t>(Scratch::panels, at_once * layout.bytes);
    for (std::size_t first = 0; first < heads; first += at_once) {
        const std::size_t count = std::min(at_once, heads - first);
        parallel_for(count, PRODUCTS_AT_ONCE / (16 * prepared), [&](std::size_t index) {
            const std::size_t head = first + index;
            const PreparedHead target = layout.at(op, memory + index * layout.bytes);
            set.prepare_head(op, target, head / op.heads, head % op.heads);
            if (listed) set.prepare_value_rows(op, target, head / op.heads, head % op.heads);
        });
        parallel_for(count * blocks, PRODUCTS_AT_ONCE / products, [&](std::size_t index) {
            const std::size_t head = first + index / blocks;
            const std::size_t query = index % blocks * unit;
            attend(op, layout.at(op, memory + index / blocks * layout.bytes), head / op.heads,
                   head % op.heads, query, std::min(op.queries, query + unit));
        });
    }
}

}  // namespace carsam
