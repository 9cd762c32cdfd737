"""How a kernel is shared among threads without the interpreter: offered in machine code, taken in machine code.

A kernel k(start, stop, crew, ...) does the tasks start..stop, and begins with

    if crew:
        return share_out(job_of(start, stop), crew)

From outside, `crew` is the address of the helpers' mailboxes (minidl.kernels.threads), of whom there may be none: the
caller writes a *job* on its stack (which tasks, and the kernel's arguments) and offers it to the helpers that are
awake, and all of them, caller included, take chunks of tasks and call the kernel for them, now with crew = 0, until
none is left. Nobody waits for a helper that did not come. What follows `share_out` is done once, after all tasks.

Each thread begins with the same share of the tasks in every kernel, and takes others' when it is done: what it reads is
then what it wrote before, the same images, and need not come from the cache of another core.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from minidl.kernels.cpu.jit import jit, routine
from minidl.kernels.cpu.vectors import I64
from minidl.kernels.threads import ASLEEP, HELPERS, IDLE, MAILBOX, OFFERED, TAKEN

__all__ = ["job_of", "serve", "share_out"]

STATE, FUNCTION, JOB = range(0, 24, 8)  # bytes from the start of a mailbox
NEXT, END = 64, 72  # of its thread's share, in the second cache line: this one is for thieves, the first for its owner
CHUNK = 8  # bytes from the start of the crew's own mailbox
START, STOP, FAILED, ARGUMENTS = range(4)  # fields of a job
START_, STOP_, CREW_ = 2, 3, 4  # places among the arguments of a compiled kernel: two of numba's own come first
CHUNKS = 8  # of a share: the fast take what the slow leave


@intrinsic
def job_of(typingctx, start, stop):
    """The job of the kernel that this stands in: the addresses of a function that does it, and of what it needs."""
    n = types.intp

    def codegen(context, builder, signature, args):
        kernel = builder.function
        function = doer(builder.module, kernel)
        kind = function.args[0].type.pointee
        job = cgutils.alloca_once(builder, kind)
        for field, value in ((START, args[0]), (STOP, args[1]), (FAILED, I64(0))):
            builder.store(value, field_of(builder, job, field))
        for place, value in enumerate(kernel.args[START_:], START_):
            builder.store(value, field_of(builder, job, ARGUMENTS + place))
        addresses = [builder.ptrtoint(pointer, I64) for pointer in (function, job)]
        return context.make_tuple(builder, signature.return_type, addresses)

    return types.UniTuple(n, 2)(n, n), codegen


def field_of(builder, job, number):
    return cgutils.gep_inbounds(builder, job, 0, number)


def doer(module, kernel):
    """The function of a job's address, a first task and the one after the last that calls the kernel for them."""
    kinds = [argument.type for argument in kernel.args]
    job_type = ir.LiteralStructType([I64] * ARGUMENTS + [I64] * START_ + kinds[START_:])
    function = ir.Function(
        module, ir.FunctionType(ir.VoidType(), [job_type.as_pointer(), I64, I64]), module.get_unique_name("do_tasks")
    )
    function.linkage = "internal"
    builder, (job, first, last) = ir.IRBuilder(function.append_basic_block("entry")), function.args
    arguments = [builder.alloca(kind.pointee) for kind in kinds[:START_]]
    arguments += [builder.load(field_of(builder, job, ARGUMENTS + place)) for place in range(START_, len(kinds))]
    for place in owners(kinds):
        arguments[place] = kinds[place](None)
    arguments[START_], arguments[STOP_], arguments[CREW_] = first, last, I64(0)
    status = builder.call(kernel, arguments, attrs=("noinline",))
    with builder.if_then(builder.icmp_signed(">", status, status.type(0)), likely=False):  # see numba's call_conv
        builder.store(I64(1), field_of(builder, job, FAILED))
    builder.ret_void()
    return function


def owners(kinds):
    """Where arrays begin among the arguments: with a pointer to what owns them, and another.

    Views count their owner's references; threads that count together would wait for each other. The caller of the
    kernel keeps the arrays alive, so the job does without owners.
    """
    pointer = ir.IntType(8).as_pointer()
    return [place for place in range(START_, len(kinds) - 1) if kinds[place] == kinds[place + 1] == pointer]


@intrinsic
def do_tasks(typingctx, function, job, first, last):
    """Do tasks first..last of a job, given the addresses from `job_of`."""

    def codegen(context, builder, signature, args):
        kind = ir.FunctionType(ir.VoidType(), [I64] * 3).as_pointer()
        builder.call(builder.inttoptr(args[0], kind), args[1:])
        return context.get_dummy_value()

    n = types.intp
    return types.void(n, n, n, n), codegen


def at(builder, address):
    return builder.inttoptr(address, I64.as_pointer())


@intrinsic
def look(typingctx, address):
    """The number at an address as it is in memory now."""

    def codegen(context, builder, signature, args):
        return builder.load_atomic(at(builder, args[0]), "acquire", 8)

    return types.intp(types.intp), codegen


@intrinsic
def put(typingctx, address, value):
    """Write a number to an address."""

    def codegen(context, builder, signature, args):
        builder.store(args[1], at(builder, args[0]))
        return context.get_dummy_value()

    return types.void(types.intp, types.intp), codegen


@intrinsic
def change(typingctx, address, before, after):
    """Change the number at an address from `before` to `after`; tells whether it was `before`."""

    def codegen(context, builder, signature, args):
        return builder.extract_value(builder.cmpxchg(at(builder, args[0]), *args[1:], "acq_rel", "acquire"), 1)

    n = types.intp
    return types.boolean(n, n, n), codegen


@intrinsic
def take(typingctx, address, count):
    """Add to the number at an address; returns what it was."""

    def codegen(context, builder, signature, args):
        return builder.atomic_rmw("add", at(builder, args[0]), args[1], "monotonic")

    n = types.intp
    return types.intp(n, n), codegen


@routine
def deal(job, crew):
    """Divide the tasks of a job among the threads of a crew: a run of neighbouring ones for each."""
    _, place = job
    start, threads = look(place + 8 * START), look(crew + HELPERS) + 1
    tasks = look(place + 8 * STOP) - start
    put(crew + CHUNK, max(1, tasks // (CHUNKS * threads)))
    for number in range(threads):
        put(crew + MAILBOX * number + NEXT, start + tasks * number // threads)
        put(crew + MAILBOX * number + END, start + tasks * (number + 1) // threads)


@routine
def do_job(job, crew, number):
    """Do the tasks of one's own share, then what is left of the others'."""
    function, place = job
    threads, chunk = look(crew + HELPERS) + 1, look(crew + CHUNK)
    for k in range(threads):
        share = crew + MAILBOX * ((number + k) % threads)
        end, first = look(share + END), take(share + NEXT, chunk)
        while first < end:
            do_tasks(function, place, first, min(first + chunk, end))
            first = take(share + NEXT, chunk)


@routine
def do_together(job, crew):
    """Do a job with the helpers of the crew that are awake."""
    deal(job, crew)
    function, place = job
    for number in range(1, look(crew + HELPERS) + 1):
        mailbox = crew + MAILBOX * number
        if look(mailbox + STATE) == IDLE:
            put(mailbox + FUNCTION, function)
            put(mailbox + JOB, place)
            change(mailbox + STATE, IDLE, OFFERED)  # who fell asleep meanwhile stays so
    do_job(job, crew, 0)
    for number in range(1, look(crew + HELPERS) + 1):
        mailbox = crew + MAILBOX * number
        if not change(mailbox + STATE, OFFERED, IDLE):  # nobody came: the offer is taken back
            while look(mailbox + STATE) == TAKEN:
                pass


@routine
def share_out(job, crew):
    """Do a job with the helpers of the crew, if it has any; several threads may have the same crew of nobody."""
    function, place = job
    start, stop = look(place + 8 * START), look(place + 8 * STOP)
    if look(crew + HELPERS):
        do_together(job, crew)
    elif start < stop:
        do_tasks(function, place, start, stop)
    if look(place + 8 * FAILED):
        raise IndexError("a kernel reached outside of an array")


@jit
def serve(crew, number, looks):
    """Do the jobs that are offered, until none has come for so many looks; then fall asleep."""
    left, mailbox = looks, crew + MAILBOX * number
    while True:
        if look(mailbox + STATE) == OFFERED and change(mailbox + STATE, OFFERED, TAKEN):
            do_job((look(mailbox + FUNCTION), look(mailbox + JOB)), crew, number)
            change(mailbox + STATE, TAKEN, IDLE)
            left = looks
        elif left > 0:
            left -= 1
        elif change(mailbox + STATE, IDLE, ASLEEP):
            return
