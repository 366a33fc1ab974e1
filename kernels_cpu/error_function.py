"""The error function and its complement.

Near zero ``erf x = x + x P(x**2)``, elsewhere ``1 - e**-P(x)``, as N. Juffa does. The complement is ``e**(-x**2) P(t) / (1 + 2 x)`` with ``t = (x - K) / (x + K)``, one
polynomial for all positive x (Shepherd and Laframboise 1981). Coefficients are minimax fits (Remez).
"""

import math

from kernels_cpu.expression import each, function, magnitude, polynomial, select, two_product, with_sign
from kernels_cpu.exponential import exp

# erf(x) / x - 1 in x**2, for |x| <= 0.928 and |x| <= 1
NEAR_SINGLE = (
    0.12837916665509144,
    -0.3761263382218228,
    0.11283695884328102,
    -0.02685937922976349,
    0.005200904413310095,
    -0.0008140505582287891,
    8.358179364742562e-05,
)
NEAR_DOUBLE = (
    0.12837916709551256,
    -0.3761263890318355,
    0.11283791670945252,
    -0.026866170643276035,
    0.005223977607422269,
    -0.0008548325989652144,
    0.00012055295319485144,
    -1.4924744649245475e-05,
    1.6447517559592861e-06,
    -1.6209175369031726e-07,
    1.3722975263122639e-08,
    -7.801189158669893e-10,
)
# -log(erfc(x)) for 0.92 <= x <= 4 and 0.99 <= x <= 6
LOGARITHM_SINGLE = (
    0.00019567529877672902,
    1.1276756271848727,
    0.6371822469639514,
    0.1039315959714571,
    -0.02222691916123519,
    0.003043216870737131,
    -0.0001959371569289688,
)
LOGARITHM_DOUBLE = (
    4.698851395204081e-07,
    1.128374397013339,
    0.6366422957192567,
    0.1027069988796128,
    -0.01899674438655062,
    -0.000401755447935376,
    0.0019068489905725231,
    -0.0007634222047243754,
    0.00013055443787119548,
    2.2474003748121857e-05,
    -2.3677008890564988e-05,
    8.926496244489442e-06,
    -2.1966205187644413e-06,
    3.84159686902019e-07,
    -4.7838808434817654e-08,
    4.0616513284236025e-09,
    -2.1155633631815876e-10,
    5.110102468504428e-12,
)
# (1 + 2 x) e**(x**2) erfc(x) in (x - K) / (x + K), with K = 3 up to x = 10.2 and K = 3.75 up to x = 27.3
FAR_SINGLE = (
    1.2530080591291677,
    -0.13562113929577116,
    -0.04756240354599653,
    0.12964640999601393,
    -0.11927087027537243,
    0.06829590061723437,
    -0.023798193762057197,
    0.0025662994090034916,
    0.0020027465418775816,
    -0.0007751285228598088,
    -0.00026699393278010113,
)
FAR_DOUBLE = (
    1.2375126308378275,
    -0.140240598585547,
    0.0035854154854630216,
    0.0822767384901492,
    -0.10880393014166487,
    0.09230432116027842,
    -0.05869339859160078,
    0.02836227741981705,
    -0.009746579534344853,
    0.0017556258529741232,
    0.0002937134981641635,
    -0.00029015413298130423,
    5.1649838107200204e-05,
    2.2384652173710145e-05,
    -1.1446231909222244e-05,
    -9.751824969596826e-07,
    1.7553417770873613e-06,
    -5.348191865885824e-08,
    -2.6250581377316044e-07,
    1.8148844710349357e-08,
    4.0433297318607275e-08,
    1.2068844213931458e-10,
    -4.900315997628215e-09,
    -9.329948414341068e-10,
)


def complement(a):
    """``erfc(a)`` for positive a."""
    centre = a.either(3.0, 3.75)
    t = (a - centre) / (a + centre)
    square, lost = two_product(a, a)
    e = exp(-square)
    return polynomial(t, a.either(FAR_SINGLE, FAR_DOUBLE)) * (e - e * lost) / (1 + 2 * a)


@function(each(math.erf))
def erf(x):
    """``2 / sqrt(pi)`` times the integral of ``e**(-t**2)`` from 0 to x."""
    a = magnitude(x)
    near = x + x * polynomial(x * x, x.either(NEAR_SINGLE, NEAR_DOUBLE))
    limit = x.either(4.0, 6.0)
    a = select(a > limit, limit, a)
    far = with_sign(1 - exp(-polynomial(a, x.either(LOGARITHM_SINGLE, LOGARITHM_DOUBLE))), x)
    return select(a > x.either(0.927734375, 1.0), far, near)


@function(each(math.erfc))
def erfc(x):
    """``1 - erf(x)``, exact where that is small."""
    a = magnitude(x)
    limit = x.either(10.25, 27.5)
    y = complement(select(a > limit, limit, a))
    return select(x < 0, 2 - y, y)
