"""Run a command that dies with its parent: `python bound.py PARENT_PID COMMAND...`.

A worker that outlives a killed parent would go on using a GPU whose lock has been let go. Linux's prctl(2) tells the
kernel; the setting stays over exec.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1

if __name__ == "__main__":
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL) != 0:
        raise OSError(ctypes.get_errno(), "prctl")
    if os.getppid() != int(sys.argv[1]):
        os.kill(os.getpid(), signal.SIGKILL)
    os.execv(sys.argv[2], sys.argv[2:])
