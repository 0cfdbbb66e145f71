"""Where the states of accounts lie on this machine: Faust's two stores, with raw reads and writes by partition.

Both have the same methods beside Faust's own, and Faust calls only its own:

- `raw_get(partition, account)`: the envelope, or None. Does no I/O beyond a local disk.
- `raw_write(partition, states, offset)`: states that the changelog holds; None deletes. `offset` is the changelog
  offset up to which this store is complete with them, None when it must not move.
- `raw_apply(partition, records)`: records of the changelog, in order; `newer` decides between two of one account.
- `sweep(partition, count)`: the next `count` states of a partition, and after the last from the beginning again.
- `note_erased(partition, states)`: these were deleted on order; a state that has not seen more is not taken over.
- `take_forgotten(partition)`, `give_back_forgotten(partition, forgotten)`: accounts that are gone here and are still to
  be deleted from the changelog, with the fences of their last states; those whose deletion failed.
- `take_overwritten(partition)`, `give_back_overwritten(partition, accounts)`: states that are to be written to the
  changelog once more, since a late record lies behind them; those whose writing failed.
- `drop(partition)`: it was revoked; what the store itself chose to delete of it is another worker's to judge now.
- `accounts()`: how many states there are.
"""
