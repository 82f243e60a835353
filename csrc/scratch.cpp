#include "scratch.h"

#include <new>

namespace carsam {
namespace {

struct Buffer {
    void* data = nullptr;
    std::size_t bytes = 0;

    void release() {
        if (data) ::operator delete(data, std::align_val_t(ALIGNMENT));
        data = nullptr;
        bytes = 0;
    }

    ~Buffer() { release(); }
};

thread_local Buffer buffers[static_cast<std::size_t>(Scratch::count)];

}  // namespace

void* scratch(Scratch purpose, std::size_t bytes) {
    Buffer& buffer = buffers[static_cast<std::size_t>(purpose)];
    if (buffer.bytes < bytes) {
        buffer.release();
        buffer.data = ::operator new(bytes, std::align_val_t(ALIGNMENT));
        buffer.bytes = bytes;
    }
    return buffer.data;
}

}  // namespace carsam
