// What a chart decides before it draws: pure, so that it is tested without a canvas.

/** The lowest and highest value drawn, with room above, and never a range of nothing. */
export function verticalRange(low: number, high: number, fromZero: boolean): [number, number] {
  if (!Number.isFinite(low) || !Number.isFinite(high)) return [0, 1];
  if (fromZero && low >= 0) return [0, high === 0 ? 1 : high * 1.18];
  const span = high - low;
  // A level that hardly moves is drawn in the middle: its noise must not look like an event.
  const room = Math.max(span * 0.25, Math.abs(high) * 0.01, 1e-9);
  return [low >= 0 ? Math.max(0, low - room) : low - room, high + room];
}

/**
 * The values with no value beside them. A line cannot show them, and there always are some: the first
 * sample of every metric, and a latency on a quiet gateway.
 */
export function isolated(column: ArrayLike<number | null | undefined>): number[] {
  const alone: number[] = [];
  for (let index = 0; index < column.length; index += 1) {
    const here = column[index] ?? null;
    if (here !== null && (column[index - 1] ?? null) === null && (column[index + 1] ?? null) === null) alone.push(index);
  }
  return alone;
}
