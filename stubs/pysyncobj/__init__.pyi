# The seams of PySyncObj 0.3.17 that this project uses, and nothing else of it. Names with `_SyncObj__` are
# its private methods and fields as Python mangles them; `tests/consensus/test_pinned_library.py` fails when
# the library's source changes.
from pysyncobj.config import SyncObjConf as SyncObjConf
from pysyncobj.syncobj import SyncObj as SyncObj
