// The journal's slot files, mapped read-only at first use. One that the broker has given up is let go of once nothing in hand lies in it: a
// mapping keeps the room on the disk of a file that has no name any more.
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "session.h"

#define HUGE_BYTES ((size_t)2 << 20)

/// The map of a slot that is in force; NULL: it is not mapped.
static struct slot_map *map_of(struct session *s, uint32_t slot) {
    if (s->last_slot < s->slot_count && s->slots[s->last_slot].slot == slot && !s->slots[s->last_slot].is_replaced) {
        return &s->slots[s->last_slot];
    }
    for (size_t i = 0; i < s->slot_count; i++) {
        if (s->slots[i].slot == slot && !s->slots[i].is_replaced) {
            s->last_slot = i;
            return &s->slots[i];
        }
    }
    return NULL;
}

static bool is_gone(const struct session *s, uint32_t slot) {
    for (size_t i = 0; i < s->gone_count; i++) {
        if (s->gone[i] == slot) {
            return true;
        }
    }
    return false;
}

/// Aligned, so that the kernel may use huge pages.
static bool map_file(struct slot_map *map, int descriptor, size_t length) {
    size_t reserved = length + HUGE_BYTES;
    unsigned char *at = mmap(NULL, reserved, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED) {
        return false;
    }
    unsigned char *start = at + (HUGE_BYTES - (uintptr_t)at % HUGE_BYTES) % HUGE_BYTES;
    if (mmap(start, length, PROT_READ, MAP_SHARED | MAP_FIXED, descriptor, 0) == MAP_FAILED) {
        munmap(at, reserved);
        return false;
    }
    madvise(at, reserved, MADV_DONTFORK);
    map->reserved = at;
    map->reserved_bytes = reserved;
    map->at = start;
    map->length = length;
    return true;
}

/// Takes a descriptor that came by the socket; it is closed in any case. After a reconnect the broker sends files that are mapped already: what
/// is in hand lies in the mapping that is there, which therefore stays.
int add_slot(struct session *s, uint32_t slot, int descriptor) {
    struct stat file;
    struct slot_map *known = map_of(s, slot), made = {.slot = slot};
    int code = FASTQ_OK;
    if (is_gone(s, slot)) {
        close(descriptor);
        return code;
    }
    if (fstat(descriptor, &file) != 0) {
        code = fail_system("fstat", "a slot file");
    } else if (known == NULL || known->device != file.st_dev || known->inode != file.st_ino) {
        size_t length = (uint64_t)file.st_size < s->slot_bytes ? (size_t)file.st_size : (size_t)s->slot_bytes; // Never beyond the file's end: a touch there would be a SIGBUS.
        made.device = file.st_dev;
        made.inode = file.st_ino;
        if (length == 0 || !map_file(&made, descriptor, length)) {
            code = fail_system("mmap", "a slot file");
        } else if (!grow((void **)&s->slots, &s->slot_size, s->slot_count, sizeof *s->slots)) {
            munmap(made.reserved, made.reserved_bytes);
            code = FASTQ_NO_MEMORY;
        } else {
            known = map_of(s, slot); // It may have moved with the table.
            if (known != NULL) {
                known->is_replaced = true; // Another file under this number: what lay in the one before may be in hand still.
            }
            s->slots[s->slot_count++] = made;
        }
    }
    close(descriptor);
    return code;
}

bool knows_slot(struct session *s, uint32_t slot) { return map_of(s, slot) != NULL; }

/// A record's first byte; NULL when the slot is not known or the record would not lie in it.
const unsigned char *find_record(struct session *s, uint32_t slot, uint32_t offset, uint32_t length) {
    const struct slot_map *map = map_of(s, slot);
    return map != NULL && (uint64_t)offset + length <= map->length && offset % 8 == 0 ? map->at + offset : NULL;
}

/// The broker names it no more. Slot ids are never used again.
void give_up_slot(struct session *s, uint32_t slot) {
    struct slot_map *map = map_of(s, slot);
    if (map != NULL && !map->is_kept) {
        map->is_given_up = true;
    }
    if (is_gone(s, slot)) {
        return;
    }
    // Remembered only for a descriptor that still lies in the socket and comes too late: without the memory for it, such a map stays until the end.
    if (grow((void **)&s->gone, &s->gone_size, s->gone_count, sizeof *s->gone)) {
        s->gone[s->gone_count++] = slot;
    }
    enum { MOST_REMEMBERED = 256 };
    if (s->gone_count > MOST_REMEMBERED) {
        memmove(s->gone, s->gone + 1, --s->gone_count * sizeof *s->gone);
    }
}

/// A new connection begins: what is mapped by now stays until the session's end, for what it handed out may be in hand under a number that is used again.
void keep_all_slots(struct session *s) {
    for (size_t i = 0; i < s->slot_count; i++) {
        s->slots[i].is_kept = true;
        s->slots[i].is_given_up = false;
    }
}

static bool names(const struct delivery_entry *entries, int count, uint32_t slot) {
    for (int i = 0; i < count; i++) {
        if (entries[i].slot == slot) {
            return true;
        }
    }
    return false;
}

/// Does what was handed out, or is about to be, lie in this slot?
static bool is_read(struct session *s, uint32_t slot) {
    for (struct subscription *u = s->subscriptions; u != NULL; u = u->next) {
        if (reads_slot(u, slot) || (u->current != NULL && names(u->current->entries + u->current->next, u->current->header.count - u->current->next, slot))) {
            return true;
        }
        for (struct run *run = u->first_waiting; run != NULL; run = run->next_waiting) {
            const struct pair *pair = reading(s);
            const void *entries = run->is_taken ? (const void *)run->entries : pair->b_ring + ((run->position + sizeof run->header) & (pair->b_bytes - 1));
            if (names(entries, run->header.count, slot)) {
                return true;
            }
        }
    }
    return false;
}

/// Unmaps what was given up and is not read any more. Only where the program asks for its next delivery: not while it reads the one before.
void let_go_of_slots(struct session *s) {
    enum { BEGINNINGS_BETWEEN = 64 }; // What is in hand for long is not looked for each time.
    if (s->beginnings_before_letting_go-- > 0) {
        return;
    }
    s->beginnings_before_letting_go = BEGINNINGS_BETWEEN;
    for (size_t i = s->slot_count; i-- > 0;) {
        if (s->slots[i].is_given_up && !s->slots[i].is_replaced && !is_read(s, s->slots[i].slot)) {
            munmap(s->slots[i].reserved, s->slots[i].reserved_bytes);
            s->slots[i] = s->slots[--s->slot_count];
        }
    }
}

void unmap_slots(struct session *s) {
    for (size_t i = 0; i < s->slot_count; i++) {
        munmap(s->slots[i].reserved, s->slots[i].reserved_bytes);
    }
    s->slot_count = 0;
}
