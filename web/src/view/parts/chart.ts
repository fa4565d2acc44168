// Price, VWAP and volume over time, one point a second; lightweight-charts draws it.

import {
  AreaSeries,
  ColorType,
  createChart,
  createSeriesMarkers,
  HistogramSeries,
  type IChartApi,
  type ISeriesApi,
  type ISeriesMarkersPluginApi,
  LineSeries,
  type SeriesMarker,
  type Time,
  type UTCTimestamp,
} from "lightweight-charts";
import type { ApiTrade } from "../api.ts";

/** Marks that are kept: more would cover the price. */
const MOST_MARKS = 200;

/** Refused prices farther from the last good one than this share would flatten the curve: they are marked at its edge. */
const NEAR = 0.03;

interface Second {
  readonly time: UTCTimestamp;
  price: number;
  vwap: number;
  volume: number;
}

export class Chart {
  readonly #host: HTMLElement;
  readonly #chart: IChartApi;
  readonly #price: ISeriesApi<"Area">;
  readonly #vwap: ISeriesApi<"Line">;
  readonly #volume: ISeriesApi<"Histogram">;
  readonly #marks: ISeriesMarkersPluginApi<Time>;
  readonly #recolour = () => this.#colour();
  #markers: SeriesMarker<Time>[] = [];
  #last: Second | undefined;

  constructor(host: HTMLElement, decimals: number, clock: (ms: number) => string) {
    this.#host = host;
    const tickMarkFormatter = (time: Time) => clock(Number(time) * 1000).slice(0, 8);
    this.#chart = createChart(host, {
      localization: { timeFormatter: tickMarkFormatter },
      autoSize: true,
      layout: { attributionLogo: false, fontFamily: getComputedStyle(host).fontFamily, fontSize: 12 },
      rightPriceScale: { borderVisible: false, scaleMargins: { top: 0.08, bottom: 0.28 } },
      timeScale: { borderVisible: false, timeVisible: true, secondsVisible: true, rightOffset: 4, tickMarkFormatter },
      crosshair: { horzLine: { labelVisible: true }, vertLine: { labelVisible: true } },
    });
    const priceFormat = { type: "price" as const, precision: decimals, minMove: 10 ** -decimals };
    this.#volume = this.#chart.addSeries(HistogramSeries, {
      priceScaleId: "volume",
      priceFormat: { type: "volume" },
      lastValueVisible: false,
      priceLineVisible: false,
    });
    this.#chart.priceScale("volume").applyOptions({ scaleMargins: { top: 0.8, bottom: 0 } });
    this.#price = this.#chart.addSeries(AreaSeries, { lineWidth: 2, priceFormat, priceLineVisible: false });
    this.#vwap = this.#chart.addSeries(LineSeries, {
      lineWidth: 2,
      lineStyle: 2,
      priceFormat,
      priceLineVisible: false,
    });
    this.#marks = createSeriesMarkers(this.#price, []);
    this.#colour();
    host.addEventListener("themechange", this.#recolour);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", this.#recolour);
  }

  /** Shows these trades, oldest first, in place of what was there. */
  load(trades: readonly ApiTrade[]): void {
    const seconds: Second[] = [];
    this.#last = undefined;
    this.#markers = [];
    for (const trade of trades) {
      const second = this.#take(trade);
      if (second !== undefined && seconds.at(-1) !== second) seconds.push(second);
    }
    this.#price.setData(seconds.map(({ time, price }) => ({ time, value: price })));
    this.#vwap.setData(
      seconds.filter(({ vwap }) => Number.isFinite(vwap)).map(({ time, vwap }) => ({ time, value: vwap })),
    );
    this.#volume.setData(seconds.map(({ time, volume }) => ({ time, value: volume })));
    this.#marks.setMarkers(this.#markers);
    this.#chart.timeScale().fitContent();
  }

  /** Adds newer trades. */
  add(trades: readonly ApiTrade[]): void {
    const marks = this.#markers.length;
    const newest = this.#markers.at(-1);
    for (const trade of trades) {
      const second = this.#take(trade);
      if (second === undefined) continue;
      const { time, price, vwap, volume } = second;
      this.#price.update({ time, value: price });
      if (Number.isFinite(vwap)) this.#vwap.update({ time, value: vwap });
      this.#volume.update({ time, value: volume });
    }
    if (this.#markers.length !== marks || this.#markers.at(-1) !== newest) this.#marks.setMarkers(this.#markers);
  }

  /** Refused prices that are marked. */
  get marks(): number {
    return this.#markers.length;
  }

  close(): void {
    this.#host.removeEventListener("themechange", this.#recolour);
    matchMedia("(prefers-color-scheme: dark)").removeEventListener("change", this.#recolour);
    this.#chart.remove();
  }

  /** Returns the second that the trade belongs to; refused ones belong to none, and are marked. */
  #take(trade: ApiTrade): Second | undefined {
    const time = Math.floor(Number(trade.timestampNs) / 1e9) as UTCTimestamp;
    if (trade.status === "INVALID") {
      this.#mark(trade, time);
      return undefined;
    }
    if (trade.price === null) return undefined;
    const last = this.#last;
    // A late tick belongs to the past, which the chart does not rewrite: it counts where it came.
    const second =
      last !== undefined && time <= last.time ? last : { time, price: trade.price, vwap: Number.NaN, volume: 0 };
    second.price = trade.price;
    second.vwap = trade.vwap20m ?? second.vwap;
    second.volume += Number(trade.volume);
    this.#last = second;
    return second;
  }

  #mark(trade: ApiTrade, time: UTCTimestamp): void {
    const last = this.#last;
    if (last === undefined) return;
    const at = Math.max(time, last.time) === last.time ? time : last.time;
    const near = trade.price !== null && Math.abs(trade.price / last.price - 1) <= NEAR;
    const color = this.#colourOf("--invalid");
    const above = trade.price === null || trade.price >= last.price;
    const mark: SeriesMarker<Time> = near
      ? {
          time: Math.min(at, last.time) as UTCTimestamp,
          position: "atPriceMiddle",
          price: trade.price as number,
          shape: "square",
          color,
          size: 0.6,
        }
      : {
          time: last.time,
          position: above ? "aboveBar" : "belowBar",
          shape: above ? "arrowDown" : "arrowUp",
          color,
          size: 0.5,
        };
    this.#markers = [...this.#markers, mark].sort((a, b) => Number(a.time) - Number(b.time)).slice(-MOST_MARKS);
  }

  #colourOf(name: string): string {
    // Custom properties come as they were written; the canvas needs a colour that is worked out.
    const probe = document.createElement("i");
    probe.style.color = `var(${name})`;
    this.#host.append(probe);
    const { color } = getComputedStyle(probe);
    probe.remove();
    return color;
  }

  #colour(): void {
    const [text, line, accent, vwap, volume] = ["--text-2", "--line", "--accent", "--vwap", "--volume"].map((name) =>
      this.#colourOf(name),
    ) as [string, string, string, string, string];
    this.#chart.applyOptions({
      layout: { background: { type: ColorType.Solid, color: "transparent" }, textColor: text },
      grid: { vertLines: { color: line }, horzLines: { color: line } },
    });
    this.#price.applyOptions({
      lineColor: accent,
      topColor: this.#colourOf("--accent-soft"),
      bottomColor: "transparent",
    });
    this.#vwap.applyOptions({ color: vwap });
    this.#volume.applyOptions({ color: volume });
  }
}
