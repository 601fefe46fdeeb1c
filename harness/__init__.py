"""Is this inference optimization right, is it faster, and may it ship?"""

import sys

if sys.argv[:1] == ["-m"]:  # so it is while Python looks for the module that `-m` names
    from harness.commands.old_forms import refuse

    refuse(sys.orig_argv)
