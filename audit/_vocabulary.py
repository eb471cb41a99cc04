"""Words that tier 2 leaves alone: what traders talk about, and plain English for when names can't be told apart."""

from __future__ import annotations


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


ASSETS = _words(
    "btc xbt eth sol bnb xrp ada doge dot avax matic pol link ltc bch trx ton shib atom uni near apt arb op sui "
    "sei inj fil icp etc xlm hbar aave mkr ldo rndr render pepe wif bonk floki tia jup pyth stx imx gala sand "
    "mana ape axs algo vet egld ftm s kas tao wld ena ondo fet grt rune crv snx comp dydx gmx eos xtz xmr zec "
    "dash neo iota usdt usdc busd dai tusd fdusd pyusd usd eur gbp jpy chf aud cad usds steth wbtc weth paxg xaut "
    "gold silver bitcoin ethereum ether solana binance-coin ripple cardano dogecoin polkadot avalanche polygon "
    "chainlink litecoin tron toncoin shiba inu cosmos uniswap near-protocol aptos arbitrum optimism injective "
    "filecoin stellar hedera maker lido celestia jupiter stacks immutable decentraland apecoin algorand vechain "
    "fantom kaspa bittensor worldcoin ethena fetch thorchain curve synthetix compound monero zcash tezos tether "
    "dollar euro sterling yen franc satoshi satoshis sats sat gwei wei bitcoins ethers altcoin altcoins "
    "stablecoin stablecoins memecoin memecoins coin coins token tokens crypto cryptos"
)
VENUES = _words(
    "binance coinbase kraken okx bybit bitfinex bitstamp gemini kucoin huobi htx gate gate.io mexc deribit bitmex "
    "bitget upbit bithumb cme cboe nyse nasdaq hyperliquid dydx uniswap raydium orca tradingview bloomberg "
    "reuters coingecko coinmarketcap veloz glassnode nansen metamask ledger trezor fed fomc sec cftc ecb boe boj "
    "london tokyo asia asian europe european america american york new us uk eu singapore sydney hong kong "
    "frankfurt zurich chicago seoul dubai"
)
METHODS = _words(
    "bollinger fibonacci fib ichimoku kijun tenkan senkou chikou heikin ashi elliott wyckoff keltner donchian "
    "gann dow jones sharpe sortino calmar kelly monte carlo black scholes greeks delta gamma vega theta rho "
    "markov kalman garch arima brownian poisson hawkes rsi macd ema sma wma hma vwap twap pov atr adx cci obv mfi "
    "stoch stochastic parabolic sar supertrend renko kagi doji hammer engulfing marubozu var cvar pnl roi apr apy "
    "tvl nav aum mae mfe dca otc etf defi cefi dex cex amm mev ioc fok gtc gtd gtx oco tp sl poc cvd oi iv rv"
)
TRADING = _words(
    "account accounts accumulate active add adjust aggressive ahead algo algorithm allocation amend amount "
    "approval approvals approve approved approver arbitrage ask asks asset assets at-market average averages "
    "backtest balance balances band bands base basis bear bearish below best bid bids block board book books "
    "borrow bounce bps bracket breakeven breakout broker budget bull bullish buy buyer buyers buying calendar "
    "call calls cancel cancelled candle candles cap capital carry cash chart charts cheap cheaper clear close "
    "closed closing collar collateral commission confirm consolidation contract contracts correlation cost costs "
    "cover covered cross crossed current curve daily data day days deal decline deep deposit depth derivatives "
    "desk deviation dip direction discount distance distribution divergence dominance downside drawdown drift "
    "drop dump edge entries entry equity estimate estimated exchange execute executed execution exit exits "
    "expected expensive expire expired expires expiry exposure fair fall feed fee fees fill filled fills firm "
    "flat flip flow flows forward free freeze front fund funding futures gain gains gap gas greed grid gross "
    "growth half halt hedge hedged hedging high higher highest highs historical history hold holding holdings "
    "hour hourly hours iceberg imbalance impact implied in-the-money index indices inflation instrument "
    "instruments intent interest interval intraday inverse invested investment kill kline klines last latency "
    "latest leg legs level levels leverage leveraged limit limits liquid liquidate liquidated liquidation "
    "liquidations liquidity list loan log long longs loss losses lot lots low lower lowest lows maintenance maker "
    "margin mark market markets maturity max maximum mean median message mid midpoint midprice min minimum minute "
    "minutes mode momentum money month monthly move moves moving net news notional off offer offers offset open "
    "opened opening option options order orderbook orders oscillator overnight oversold overbought overview pair "
    "pairs paper partial partially passive pattern payout peak peg pending percent percentage performance period "
    "perp perpetual perpetuals perps pips place placed plan point points pool portfolio position positions post "
    "post-only premium pressure price priced prices pricing profit profitable profits proposal proposals proposed "
    "protect pullback pump put puts quantity quarterly quote quoted quotes rally range ranges rate rates ratio "
    "rebalance rebate recent record recording reduce reduce-only reference regime reject rejected rejection "
    "refusal refuse refused repo report resistance result results retest retrace retracement return returns "
    "reversal review reviews reward rise risk risks risky roll rollover rule rules run sandwich scale scalp "
    "scalping screen seconds sell seller sellers selling sentiment session settle settlement share short shorting "
    "shorts side sides signal signals size sized sizing skew slice slippage slow slope snapshot spike split spot "
    "spread spreads squeeze stale stake staking stand standard state stats status step stop stop-loss stop-limit "
    "stops strategies strategy stream stress strike strong structure suggest suggested suggestion suggestions "
    "summary supply support swap swaps sweep swing switch symbol symbols synthetic take take-profit taker target "
    "targets tax term test thin threshold tick ticker tickers ticks tight time timeframe top total trade traded "
    "trader traders trades trading trail trailing transaction transfer trend trending trends trigger turnover "
    "undervalued unrealised unrealized realised realized update updates upside upward utilisation utilization "
    "value valued value-at-risk variance venue venues versus vol volatile volatility volume volumes wallet weak "
    "week weekend weekly weight weighted what-if whale whales whipsaw wick wicks width win withdraw withdrawal "
    "work working worst year yearly yield yields"
)
CALENDAR = _words(
    "monday tuesday wednesday thursday friday saturday sunday january february march april may june july august "
    "september october november december jan feb mar apr jun jul aug sep sept oct nov dec utc gmt est cet q1 q2 "
    "q3 q4 am pm today tomorrow yesterday tonight morning afternoon evening noon midnight ytd mtd"
)
ENGLISH = _words(
    "a about above across after again against ago all almost along already also although always an and another "
    "any anything are around as at away back be because become been before being between both but by came can "
    "can't cannot case change changed check come compare compared could did didn't different do does doesn't "
    "doing don't done down during each early either else enough even ever every everything explain far few find "
    "first five follow for found four from full further get getting give given go goes going good got great had "
    "happen happened happens has have he hello help her here hi him his how however i i'd i'll i'm i've if "
    "important in including inside instead into is isn't it it's its just keep know known large larger largest "
    "later least left less let let's like likely little look looking looks lot made make makes many matter maybe "
    "me mean means might more most much must my near nearest nearly need needed needs never next nine no none nor "
    "not nothing now number of often ok okay old on once one only onto or other others our out outside over own "
    "part past per perhaps please possible probably quick quickly quite rather really right s said same say see "
    "seem seems sense set seven several she should show since single six small smaller so some something soon "
    "start started still such sure t take tell ten than thank thanks that that's the their them then there these "
    "they thing things think this those three through to together too toward towards tried try trying turn two "
    "under until up upon us use used using usual usually very via want wanted wants was way we well went were "
    "what what's when where whether which while who whole whom whose why will with within without won't worth "
    "would wouldn't yes yet you your zero eight"
)

NAMES_THAT_ARE_NOT_PEOPLE = ASSETS | VENUES | METHODS | CALENDAR
ALL_WORDS = NAMES_THAT_ARE_NOT_PEOPLE | TRADING | ENGLISH
