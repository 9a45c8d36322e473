"""Who does what: the queue's protocol, safe in any shared folder.

Pure: `records`, `fold`, `rules`, `liveness`, `progress`. Disk: `store`, `journal`, `slots`, `view`. `distributor` ties them.
"""
