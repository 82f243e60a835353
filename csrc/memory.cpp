#include "memory.h"

#include <list>
#include <map>
#include <mutex>
#include <new>

#if defined(__linux__)
#include <sys/mman.h>
#endif
#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#endif

namespace carsam {
namespace {

constexpr std::size_t ALIGNMENT = 64;
constexpr std::size_t PAGE = std::size_t(1) << 21;  // a huge page
constexpr std::size_t HUGE_BLOCK = 2 * PAGE;
// Blocks start at different offsets within a page: a processor holds a load back if the address of
// an earlier store ends in the same 12 bits, because the load might depend on it.
constexpr std::size_t OFFSET = 832, OFFSETS = 5;

struct Block {
    char* memory;
    std::size_t bytes;
};

std::mutex* blocks_mutex = new std::mutex;  // never destroyed: arrays may outlive the module
std::list<Block>& free_blocks = *new std::list<Block>;  // most recently returned first
std::map<void*, Block>& taken_blocks = *new std::map<void*, Block>;
std::size_t free_bytes = 0, offsets_used = 0;

std::align_val_t alignment_of(std::size_t bytes) {
    return std::align_val_t(bytes >= HUGE_BLOCK ? PAGE : ALIGNMENT);
}

char* allocate(std::size_t bytes) {
    char* memory = static_cast<char*>(::operator new(bytes, alignment_of(bytes)));
#if defined(__linux__)
    if (bytes >= HUGE_BLOCK) madvise(memory, bytes, MADV_HUGEPAGE);
#endif
    return memory;
}

void release(const Block& block) noexcept {
    ::operator delete(block.memory, alignment_of(block.bytes));
}

#if defined(__unix__) || defined(__APPLE__)
// A fork waits until no other thread is in the middle of a change: in the child that thread would
// never end it.
void lock_blocks() { blocks_mutex->lock(); }
void unlock_blocks() { blocks_mutex->unlock(); }
const int registered = pthread_atfork(lock_blocks, unlock_blocks, unlock_blocks);
#endif

}  // namespace

void* take_block(std::size_t bytes) {
    bytes += OFFSET * OFFSETS;
    std::lock_guard<std::mutex> lock(*blocks_mutex);
    auto best = free_blocks.end();
    for (auto block = free_blocks.begin(); block != free_blocks.end(); ++block) {
        const bool fits = block->bytes >= bytes && block->bytes / 2 <= bytes;
        if (fits && (best == free_blocks.end() || block->bytes < best->bytes)) best = block;
    }
    Block taken{nullptr, bytes};
    if (best != free_blocks.end()) {
        taken = *best;
        free_blocks.erase(best);
        free_bytes -= taken.bytes;
    } else {
        taken.memory = allocate(bytes);
    }
    char* start = taken.memory + offsets_used++ % OFFSETS * OFFSET;
    taken_blocks[start] = taken;
    return start;
}

void give_block(void* memory) noexcept {
    std::lock_guard<std::mutex> lock(*blocks_mutex);
    const auto taken = taken_blocks.find(memory);
    const Block block = taken->second;
    taken_blocks.erase(taken);
    free_blocks.push_front(block);
    free_bytes += block.bytes;
    while (free_bytes > KEPT_BYTES) {  // the block that has been unused longest goes
        release(free_blocks.back());
        free_bytes -= free_blocks.back().bytes;
        free_blocks.pop_back();
    }
}

}  // namespace carsam
