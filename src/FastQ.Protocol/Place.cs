using System.Runtime.InteropServices;

namespace FastQ.Protocol;

/// <summary>Where a record lies in the journal: a slot file (its id is never used again) and a byte offset in it, a multiple of 8.</summary>
/// <param name="Slot">Id of the slot file; 0 is no slot.</param>
/// <param name="Offset">Bytes from the slot's start to the record's header.</param>
[StructLayout(LayoutKind.Sequential)]
public readonly record struct Place(uint Slot, uint Offset);
