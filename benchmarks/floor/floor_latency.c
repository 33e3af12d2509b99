// How long a message and its answer must take at least, 64 B each way, by what the waiting side does.
//
//   floor_latency [-n ROUND_TRIPS]
//
//   direct:            asker --lane 0--> answerer --lane 3--> asker
//   through a broker:  asker --lane 0--> broker --lane 1--> answerer --lane 2--> broker --lane 3--> asker
//
// A lane holds one message: its number, published last, and 64 bytes that must fit the number.
#include "floor.h"

#define BODY_BYTES 64

typedef struct {
    counter number;
    uint8_t body[BODY_BYTES];
} lane;

typedef struct {
    lane lanes[4];
    doorbell asker, broker, answerer;
} trio;

static trio *shared;

static void send(lane *to, doorbell *receiver, uint64_t number) {
    memset(to->body, (int)(number & 0xff), BODY_BYTES);
    publish(&to->number, number);
    ring(receiver);
}

static void receive(const lane *from, doorbell *own, uint64_t number) {
    WAIT_UNTIL(own, look(&from->number) == number);
    if (from->body[0] != (number & 0xff) || from->body[BODY_BYTES - 1] != (number & 0xff)) {
        fail("message %llu is not what was sent", (unsigned long long)number);
    }
}

static void forward(const lane *from, lane *to, doorbell *receiver, uint64_t number) {
    memcpy(to->body, from->body, BODY_BYTES);
    publish(&to->number, number);
    ring(receiver);
}

static void run_answerer(bool through_broker, uint64_t trips) {
    const lane *in = &shared->lanes[through_broker ? 1 : 0];
    lane *out = &shared->lanes[through_broker ? 2 : 3];
    for (uint64_t number = 1; number <= trips; number++) {
        receive(in, &shared->answerer, number);
        send(out, through_broker ? &shared->broker : &shared->asker, number);
    }
}

// One doorbell, two sources: as a broker has it.
static void run_broker(uint64_t trips) {
    lane *lanes = shared->lanes;
    for (uint64_t there = 0, back = 0; back < trips;) {
        WAIT_UNTIL(&shared->broker, look(&lanes[0].number) > there || look(&lanes[2].number) > back);
        if (look(&lanes[0].number) > there) {
            forward(&lanes[0], &lanes[1], &shared->answerer, ++there);
        }
        if (look(&lanes[2].number) > back) {
            forward(&lanes[2], &lanes[3], &shared->asker, ++back);
        }
    }
}

// Keeps this process on the first or second core that it may use; without a second one, where it is.
static void stay_on(int which) {
    cpu_set_t allowed, one;
    MUST(sched_getaffinity(0, sizeof allowed, &allowed));
    for (int core = 0; core < CPU_SETSIZE; core++) {
        if (CPU_ISSET(core, &allowed) && which-- == 0) {
            CPU_ZERO(&one);
            CPU_SET(core, &one);
            MUST(sched_setaffinity(0, sizeof one, &one));
            return;
        }
    }
}

static pid_t start(bool is_broker, bool through_broker, bool placed, uint64_t trips) {
    pid_t child = (pid_t)MUST(fork());
    if (child != 0) {
        return child;
    }
    end_within(60);
    if (placed) {
        stay_on(1);
    }
    if (is_broker) {
        run_broker(trips);
    } else {
        run_answerer(through_broker, trips);
    }
    _exit(0);
}

static void reap(pid_t child) {
    int status;
    MUST(waitpid(child, &status, 0));
    if (status != 0) {
        fail("a child ended with status %d", status);
    }
}

// Rested: the asker lets so much time pass before each, so that cores sleep as well as processes.
// Placed: the asker on one core, the others together on the next; else where the kernel likes.
static void measure(const char *name, bool through_broker, unsigned yields, bool placed, unsigned rest_us, uint64_t trips, uint64_t *samples) {
    shared = shared_memory(sizeof *shared);
    doorbell_init(&shared->asker, yields);
    doorbell_init(&shared->broker, yields);
    doorbell_init(&shared->answerer, yields);
    pid_t answerer = start(false, through_broker, placed, trips);
    pid_t broker = through_broker ? start(true, through_broker, placed, trips) : 0;
    cpu_set_t everywhere;
    MUST(sched_getaffinity(0, sizeof everywhere, &everywhere));
    if (placed) {
        stay_on(0);
    }

    for (uint64_t number = 1; number <= trips; number++) {
        if (rest_us) {
            usleep(rest_us);
        }
        uint64_t asked = now_ns();
        send(&shared->lanes[0], through_broker ? &shared->broker : &shared->answerer, number);
        receive(&shared->lanes[3], &shared->asker, number);
        samples[number - 1] = now_ns() - asked;
    }

    reap(answerer);
    if (broker) {
        reap(broker);
    }
    MUST(sched_setaffinity(0, sizeof everywhere, &everywhere));
    print_latency(name, samples, trips);
    close(shared->asker.event);
    close(shared->broker.event);
    close(shared->answerer.event);
    munmap(shared, sizeof *shared);
}

int main(int argc, char **argv) {
    uint64_t trips = 30000;
    int option;
    while ((option = getopt(argc, argv, "n:")) != -1) {
        if (option != 'n' || (trips = strtoull(optarg, NULL, 10)) == 0) {
            fail("usage: floor_latency [-n ROUND_TRIPS]");
        }
    }
    end_within(180);
    fail_with_children();
    uint64_t *samples = malloc(trips * sizeof *samples);
    if (!samples) {
        fail("no memory");
    }
    // Of the two ways to place them, the one that was faster where it was tried, so that the floor is the lower one.
    measure("direct yield 100", false, 100, true, 0, trips, samples);
    measure("through a broker, yield 100 times, then eventfd", true, 100, true, 0, trips, samples);
    measure("eventfd at once through a broker", true, 0, false, 0, trips, samples);
    measure("eventfd at once through a broker, rested 1 ms", true, 0, false, 1000, trips / 10 + 1, samples);
    return 0;
}
